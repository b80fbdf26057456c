"""Zygotes that import what processes are to be forked with, and do not where that cannot be forked."""

from __future__ import annotations

import psutil
import pytest

from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.process import supervisor
from kourou.runtime.process.preload import COMMANDS
from kourou.runtime.process.supervisor import Supervisor
from polling import until
from runtime.test_supervisor import Events

pytestmark = pytest.mark.usefixtures("no_leaks")

ENTRY = """
import os, sys
def run(boot):
    wanted = boot["wanted"]
    words = [wanted in sys.modules, os.environ.get("OMP_NUM_THREADS")]
    if draw := getattr(sys.modules.get("numpy"), "random", None):
        words.append(draw.random())
    print(*words)
    return 0
"""


@pytest.fixture
def forked(tmp_path, monkeypatch):
    """Runs processes that are to be forked with a module of this source; what they print."""
    (tmp_path / "entry_of_test.py").write_text(ENTRY)
    monkeypatch.syspath_prepend(tmp_path)
    events = Events()
    with Supervisor(events, run_id="test-run", folder=tmp_path, preload=COMMANDS) as forking:

        def run(module, *envs, source=None):
            if source is not None:
                (tmp_path / f"{module}.py").write_text(source)
            names = [f"{module}/{index}" for index, _ in enumerate(envs)]
            for name, env in zip(names, envs, strict=True):
                spec = ProcessSpec(name=name, argv=(), preload=(module,), env=tuple(env.items()))
                boot = {"entry": "entry_of_test", "cpus": None, "memory_bytes": None, "wanted": module}
                forking.start(spec, 1, boot)
            exits = [events.wait(name) for name in names]
            assert [exited.code for exited in exits] == [0] * len(names), events.lines
            return [line for name, line, _ in events.lines if name in names]

        yield run


def test_processes_find_it_imported_and_draw_numbers_of_their_own(forked):
    (one, two) = (line.split() for line in forked("numpy", {}, {}))
    assert one[0] == two[0] == "True"
    assert one[2] != two[2]


def test_variables_that_libraries_read_once_reach_a_zygote_of_their_own(forked, tmp_path):
    source = "import os\nprint(os.environ.get('OMP_NUM_THREADS'), flush=True)"
    lines = forked("reads_once", {"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "2"}, {"OTHER": "3"}, source=source)
    assert sorted(line.split()[1] for line in lines) == ["1", "2", "None"]
    said = sorted(log.read_text().strip() for log in tmp_path.glob("zygote-*.log"))
    assert said == ["1", "2", "None"]


KEEPS = """
import atexit, os, sys, tempfile
os.environ["SET_BY_IMPORT"] = os.environ.setdefault("SET_UNLESS_GIVEN", "import")
log, folder = sys.stdout, tempfile.gettempdir()
def print_all(folder):
    print("\u2603", os.getenv("SET_BY_IMPORT"), os.getenv("SET_UNLESS_GIVEN"), tempfile.gettempdir(), file=log)
    os._exit(0)  # which flushes nothing
sys.stdout = type("Wrapped", (), {"write": lambda _, text: None, "flush": lambda _: None})()
"""


def test_what_an_import_does_to_its_process_is_there_in_processes_forked_with_it(forked, tmp_path, monkeypatch):
    # When a module sets variables, takes hold of standard output and of the folder for temporary files, and so on.
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    (tmp_path / "entry_of_test.py").write_text("def run(boot):\n __import__('keeps').print_all('')\n")
    # Then processes that are forked with it find all of that, as if each had imported it itself.
    lines = forked("keeps", {"TMPDIR": str(tmp_path)}, {"SET_UNLESS_GIVEN": "hand"}, source=KEEPS)
    assert f"\u2603 import import {tmp_path}" in lines
    assert any(line.startswith("\u2603 import hand /") for line in lines)


@pytest.mark.parametrize(
    ("env", "is_the_same"), [({}, True), ({"LC_ALL": "C"}, False)], ids=["as it is", "with others from the start"]
)
def test_a_zygote_that_was_started_ahead_serves_whom_it_suits(env, is_the_same, tmp_path, monkeypatch):
    # Given a zygote that was started before anybody knew for whom
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "says_whose.py").write_text("import os\nprint(os.environ['KOUROU_COOKIE'].strip(), flush=True)")
    (tmp_path / "entry_of_test.py").write_text("def run(boot):\n print(__import__('os').getppid())\n return 0")
    events, others = Events(), children()
    with Supervisor(preload=COMMANDS) as starting:
        starting.start_ahead()
        until(lambda: children() > others, 20, "it is there")
        (ahead,) = children() - others
        # When it is known, and a process starts, with a module that the zygote imports first
        starting.events = events
        starting.belong_to("the-run", tmp_path)
        spec = ProcessSpec(name="node/0", argv=(), preload=("says_whose",), env=tuple(env.items()))
        starting.start(spec, 1, {"entry": "entry_of_test", "cpus": None})
        assert events.wait("node/0").code == 0, events.lines
        # Then it was forked from that one, unless it needs variables of its own from an interpreter's start on
        ((_, parent, _),) = events.lines
        assert (int(parent) == ahead) is is_the_same
        # Then it knew whose it is, and printed into the run's folder
        assert (tmp_path / "zygote-0.log").read_text() == "the-run:\n"
        # Then it is ended where nobody needs it
        starting.prepare(spec)
        until(lambda: (ahead in children()) is is_the_same, 20, "what is not needed ends")


def children():
    return {child.pid for child in psutil.Process().children()}


def test_a_zygote_that_was_started_ahead_ends_with_its_supervisor():
    with Supervisor(preload=COMMANDS) as starting:
        starting.start_ahead()


def test_a_stop_does_not_wait_for_an_import(tmp_path, monkeypatch):
    # Given a zygote that imports a module, which takes its time and has started a process.
    monkeypatch.setattr(supervisor, "_CLOSE_S", 3600)
    monkeypatch.syspath_prepend(tmp_path)
    source = "import subprocess, pathlib\np = subprocess.Popen(['sleep', '3600'])\n"
    (tmp_path / "slow.py").write_text(source + "print('begun', flush=True)\np.wait()")
    events = Events()
    starting = Supervisor(events, run_id="test-run", folder=tmp_path, preload=COMMANDS)
    starting.start(ProcessSpec(name="node/0", argv=(), preload=("slow",)), 1, {"entry": "entry_of_test"})
    until(lambda: [log for log in tmp_path.glob("zygote-*.log") if log.read_text()], 50, "the import has begun")
    # When all is to end, then it does; that nothing is left is looked at for each test.
    starting.close()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import threading\nthreading.Thread(target=lambda: __import__('time').sleep(60), daemon=True).start()",
         "has started 1 threads"),
        ("import subprocess\np = subprocess.Popen(['sleep', '60'])", "has started a process"),
        ("import socket\ns = socket.socket()", "has opened socket"),
        ("raise OSError('no such device')", "OSError: no such device"),
        ("import os\nos._exit(7)", "ended with 7"),
    ],
    ids=["thread", "process", "socket", "error", "exit"],
)  # fmt: skip
def test_what_cannot_be_forked_is_left_to_each_process_and_told_once(source, why, forked):
    # When two processes are to be forked with a module that does such a thing.
    told, *lines = forked("unforkable", {}, {}, source=source)
    # Then both run, without it, and one line says why.
    assert told.startswith("kourou: each process imports unforkable by itself: ")
    assert why in told
    assert lines == ["False None"] * 2
