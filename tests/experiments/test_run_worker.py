"""What a sweep's run of a function does with that."""

from __future__ import annotations

import asyncio
import pickle
import sys

from kourou.experiments.sweep import run_process
from kourou.script.packed import pack
from optional import pytest


def run(tmp_path, function, **arguments):
    file = tmp_path / "payload"
    values = {"function": function, **arguments}
    file.write_bytes(pickle.dumps(("function", tuple(arguments), pack(values, "a run"))))
    return run_process._call(file)


async def write(path):
    await asyncio.sleep(0)
    path.write_text("done")


def generate():
    yield 1


def fail():
    raise ValueError("no such env")


def test_a_coroutine_function_is_run(tmp_path):
    assert run(tmp_path, write, path=tmp_path / "file") == 0
    assert (tmp_path / "file").read_text() == "done"


@pytest.mark.parametrize(
    ("function", "told"), [(generate, "generate is a generator function"), (fail, "ValueError: no such env")]
)
def test_a_failure_is_told_with_its_traceback(function, told, tmp_path, capsys):
    assert run(tmp_path, function) == 1
    assert told in capsys.readouterr().err


def test_a_failure_goes_to_the_users_hook(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: print("hook:", kind.__name__, file=sys.stderr))
    assert run(tmp_path, fail) == 1
    assert capsys.readouterr().err == "hook: ValueError\n"
