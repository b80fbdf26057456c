"""How an exit is classified, from what the system saw, what the node said, and what was done to it."""

from __future__ import annotations

import pytest

from kourou.runtime.model import instructions as do
from kourou.runtime.model.events import Started
from kourou.runtime.model.records import Outcome
from runtime.playing import RAISED, Play, exited, node, plan_of, reported, stop

VERDICTS: dict[str, tuple[dict, str, str]] = {
    "finished": ({"code": 0, "outcome": Outcome(kind="finished")}, "FINISHED", "finished"),
    "stopped": ({"code": 0, "outcome": Outcome(kind="stopped")}, "FINISHED", "finished"),
    "raised": ({"code": 1, "outcome": RAISED}, "FAILED", "raised ValueError: x"),
    "exited": ({"code": 3, "outcome": Outcome(kind="exited", code=3)}, "FAILED", "exited with code 3"),
    "exited-hard": ({"code": 3}, "FAILED", "exited with code 3"),
    "vanished": ({"code": 0}, "FAILED", "exited with code 0 before it had finished (os._exit?)"),
    "killed": ({"signal": 9}, "FAILED", "was killed by SIGKILL"),
    "killed-after-its-end": (
        {"signal": 11, "outcome": Outcome(kind="finished")},
        "FAILED",
        "was killed by SIGSEGV",
    ),
    "terminated": ({"signal": 15}, "FAILED", "was killed by SIGTERM"),
    "realtime-signal": ({"signal": 63}, "FAILED", "was killed by signal 63"),
}


def _ends(play, outcome=None, **how):
    """The exit record and the failures of a/0, which ends like this."""
    told = play.tell(reported("a/0", outcome)) if outcome else []
    told = [*told, *play.tell(exited("a/0", **how)), *play.wait(1.0)]
    (end,) = (done.record for done in told if isinstance(done, do.End))
    return end, [done.record for done in told if isinstance(done, do.Fail)]


@pytest.mark.parametrize("case", VERDICTS)
def test_each_exit_is_classified(case):
    how, state, cause = VERDICTS[case]
    play = Play(plan_of(node("a/0", on_failure="ignore")))
    play.wait()
    play.tell(Started(name="a/0", attempt=1, pid=4711))
    record, failures = _ends(play, **how)
    assert (record.state, record.cause, record.pid, record.attempt) == (state, cause, 4711, 1)
    assert failures == []


STOPPED: dict[str, tuple[dict, str, str]] = {
    "by-sigterm": ({"signal": 15}, "KILLED", "was ended by SIGTERM, since the program stopped"),
    "by-sighup": ({"signal": 1}, "KILLED", "was ended by SIGTERM, since the program stopped"),
    "with-its-code": ({"code": 143}, "KILLED", "was ended by SIGTERM, since the program stopped"),
    "after-its-end": (
        {"signal": 15, "outcome": Outcome(kind="finished")},
        "KILLED",
        "had finished, but was ended by SIGTERM, since the program stopped",
    ),
    "without-words": ({"code": 0}, "FINISHED", "finished"),
    "raised": ({"code": 1, "outcome": RAISED}, "FAILED", "raised ValueError: x"),
    "by-itself": ({"signal": 11}, "FAILED", "was killed by SIGSEGV"),
    "with-another-code": ({"code": 3}, "FAILED", "exited with code 3"),
}


@pytest.mark.parametrize("case", STOPPED)
def test_a_stop_s_own_sigterm_is_no_failure_and_others_are(case):
    how, state, cause = STOPPED[case]
    play = Play(plan_of(node("a/0")))
    play.wait()
    play.tell(stop())
    record, failures = _ends(play, **how)
    assert (record.state, record.cause) == (state, cause)
    assert failures == ([record] if state == "FAILED" else [])
