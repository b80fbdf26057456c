"""The launcher of threads: an interrupt ends its node, whenever it comes."""

from __future__ import annotations

import gc
import importlib.machinery
import sys
import threading
import time
import types
from signal import SIGKILL

import pytest

from kourou import errors
from kourou.runtime.context.context import Binding, NodeContext
from kourou.runtime.launchers.threads import ThreadLauncher
from kourou.runtime.model.records import INTERRUPT
from kourou.runtime.stopping.state import StopState
from kourou.shown import described
from polling import WAIT_S, until

ROUNDS = 200


class Events:
    """Records exits and outcomes."""

    def __init__(self):
        self.exits = []
        self.outcomes = []

    def on_placed(self, name, attempt, host):
        raise AssertionError("threads have one host")

    def on_started(self, name, attempt, pid):
        pass

    def on_line(self, name, line, stream):
        pass

    def on_exited(self, name, attempt, exit):  # noqa: A002 - the protocol's name
        self.exits.append((name, attempt, exit.code, exit.signal))

    def report(self, name, attempt, outcome):
        self.outcomes.append(outcome.kind)


def _context(name, attempt):
    return NodeContext(
        name=name,
        program="p",
        run_id="r",
        launch_type="local_mt",
        attempt=attempt,
        binding=Binding(run_id="r", control=None, token=""),  # type: ignore[arg-type]  # not used by these nodes
        stop=StopState(lambda reason: None),
        report_child=lambda name, outcome: None,
    )


def _ended(events, count):
    return len(events.exits) >= count


@pytest.fixture
def launched():
    """Makes a launcher of one node."""
    made = []

    def make(entry):
        events = Events()
        made.append(ThreadLauncher({"a/0": entry}, _context, events, events.report))
        return made[-1], events

    yield make
    for launcher in made:
        launcher.close()


@pytest.fixture
def often():
    """Threads take turns as often as they can; no callback of the garbage collector (hypothesis has one) is hit."""
    before = sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
    gc.enable()


def test_a_node_that_returns_has_finished(launched):
    launcher, events = launched(lambda context: None)
    launcher.start("a/0", 1)
    until(lambda: events.exits, WAIT_S)
    assert events.exits == [("a/0", 1, 0, None)]
    assert events.outcomes == ["finished"]


def test_a_node_may_fail_while_another_thread_imports_asyncio(launched, monkeypatch):
    half = types.ModuleType("asyncio")
    half.__spec__ = importlib.machinery.ModuleSpec("asyncio", None)
    half.__spec__._initializing = True  # type: ignore[attr-defined]  # as importlib has it while the module's code runs

    def entry(context):
        raise MemoryError

    launcher, events = launched(entry)
    monkeypatch.setitem(sys.modules, "asyncio", half)
    launcher.start("a/0", 1)
    until(lambda: events.exits, WAIT_S)
    assert events.exits == [("a/0", 1, 1, None)]
    assert events.outcomes == ["raised"]


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such env"), "ValueError: no such env"),
        (AssertionError(), "AssertionError"),
        (_Mute(), "_Mute, whose __str__ raises"),
    ],
)
def test_how_a_node_failed_is_said_as_a_traceback_says_it(error, text):
    assert described(error) == text


def test_a_node_whose_surroundings_cannot_be_made_has_failed():
    events = Events()

    def contexts(name, attempt):
        raise OSError("too many open files")

    launcher = ThreadLauncher({"a/0": lambda context: None}, contexts, events, events.report)
    try:
        launcher.start("a/0", 1)
        until(lambda: events.exits, WAIT_S)
    finally:
        launcher.close()
    assert events.exits == [("a/0", 1, 1, None)]
    assert events.outcomes == ["raised"]


def test_an_interrupt_is_raised_in_the_node(launched):
    seen = []

    def entry(context):
        try:
            while True:
                seen.append("running")
        except errors.StopRequested:
            seen.append("interrupted")
            raise

    launcher, events = launched(entry)
    launcher.start("a/0", 1)
    until(lambda: seen, WAIT_S)
    launcher.signal("a/0", INTERRUPT)
    until(lambda: events.exits, WAIT_S)
    assert seen[-1] == "interrupted"
    assert events.outcomes == ["stopped"]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interrupt_at_any_moment_of_a_short_life_leaves_exactly_one_exit(launched, often):
    # Given nodes that live for no longer than an interrupt takes, and threads that take turns at every instruction.
    launcher, events = launched(lambda context: [str(number) for number in range(200)])
    for attempt in range(1, ROUNDS + 1):
        # When they are interrupted while they start, run, end and after that.
        launcher.start("a/0", attempt)
        deadline = time.monotonic() + WAIT_S
        while not _ended(events, attempt) and time.monotonic() < deadline:
            launcher.signal("a/0", INTERRUPT)
        # Then each ends once.
        assert _ended(events, attempt), attempt
    assert [attempt for _, attempt, _, _ in events.exits] == list(range(1, ROUNDS + 1))
    assert set(events.outcomes) <= {"finished", "stopped"}


def test_a_killed_thread_is_reported_once_and_its_own_end_is_not(launched):
    let_go = threading.Event()
    launcher, events = launched(lambda context: let_go.wait())
    launcher.start("a/0", 1)
    launcher.signal("a/0", SIGKILL)
    launcher.signal("a/0", SIGKILL)
    assert events.exits == [("a/0", 1, None, 9)]
    let_go.set()
    until(lambda: events.outcomes, WAIT_S)
    assert events.exits == [("a/0", 1, None, 9)]
    launcher.signal("unknown/0", SIGKILL)
    launcher.signal("unknown/0", INTERRUPT)
