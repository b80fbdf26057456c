"""A failure is shown from the user's first frame on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

import kourou
from kourou import tracebacks
from kourou.nested import map_leaves
from kourou.tracebacks import format_failure
from nursery import Nursery
from polling import WAIT_S

HERE = "test_tracebacks.py"


def fail(value: object) -> None:
    raise ValueError(value)


def chain(value: object) -> None:
    try:
        map_leaves(fail, value)
    except ValueError as error:
        raise KeyError(value) from error


def told(function: Callable[..., Any], *args: Any) -> str:
    """What the function raises, without the frame of this one."""
    try:
        function(*args)
    except Exception as error:
        frames = error.__traceback__
        return format_failure(error.with_traceback(frames and frames.tb_next))
    raise AssertionError("nothing was raised")


def files(text: str) -> list[str]:
    return re.findall(r'^  File ".*?([^/"]+)", line', text, re.MULTILINE)


def test_what_of_ours_called_the_users_code_is_left_out() -> None:
    text = told(map_leaves, fail, [1])
    assert files(text) == [HERE]
    assert text.endswith("ValueError: 1\n")


def test_it_is_where_kourou_is_installed_among_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracebacks, "_INSTALLED", re.compile(r"(.*)/(kourou)/"))
    assert files(told(map_leaves, fail, [1])) == [HERE]


def test_so_is_the_event_loop_that_ran_it() -> None:
    async def main() -> None:
        fail(1)

    assert files(told(asyncio.run, main())) == [HERE, HERE]


def test_each_cause_begins_with_a_frame_of_the_users_and_keeps_what_the_user_called() -> None:
    first, second = told(map_leaves, chain, [1]).split("The above exception was the direct cause")
    assert files(second) == [HERE]
    assert files(first)[0] == files(first)[-1] == HERE
    assert "nested.py" in files(first)


def test_an_error_without_any_frame_of_the_users_keeps_ours() -> None:
    assert set(files(told(kourou.__getattr__, "no_such_name"))) == {"later.py"}


TOO_MUCH = """
import resource
from kourou.tracebacks import format_failure
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    bytearray(2 << 30)
except MemoryError as error:
    print(format_failure(error))
print(format_failure(ImportError("libtorch_cpu.so: failed to map segment from shared object")))
print(format_failure(ImportError("no module")))
"""


def test_where_there_was_no_room_the_limit_of_addresses_is_told(nursery: Nursery) -> None:
    # Given a process that may have 1 GiB of addresses
    with nursery.start(TOO_MUCH) as process:
        said = process.communicate(timeout=WAIT_S)
    # When something takes more, then the limit is told; and nothing of it where it is another error
    limit = "this process may have 1024 MiB of addresses (`ulimit -v`)"
    assert [line for line in said.splitlines() if line and not line.startswith((" ", "Traceback"))] == [
        "MemoryError",
        limit,
        "ImportError: libtorch_cpu.so: failed to map segment from shared object",
        limit,
        "ImportError: no module",
    ]
