"""What the director decides, as tables: events, and the instructions that follow from each."""

from __future__ import annotations

from typing import Any

import pytest

from kourou.runtime.graph.failure_policies import Restart
from kourou.runtime.model import instructions as do
from kourou.runtime.model.events import Placed, RestartAsked, Started
from kourou.runtime.model.records import NodeState, Outcome
from kourou.runtime.plan.plan import Placement
from kourou.runtime.stopping.timeline import interrupted_by
from runtime.playing import (
    Play,
    add,
    exited,
    finished,
    in_short,
    node,
    plan_of,
    raised,
    ready,
    remove,
    reported,
    stop,
)

Table = tuple[list[Any], list[tuple[Any, list[str]]]]
"""Nodes; then what happens (an event, several, or seconds that pass), each with what is to be done."""


def unit(*parts, **options):
    """A colocation of processes."""
    return [
        node("u/0", placement=Placement.UNIT, **options),
        *(node(p.name, parent="u/0", on_failure=p.on_failure) for p in parts),
    ]


IN_C = {"parent": "c/0", "placement": Placement.IN_PARENT}


def threads(**options):
    """A colocation whose children are threads of its process."""
    return [node("c/0", **options), node("c/0:a", **IN_C), node("c/0:b", on_failure=Restart(), **IN_C)]


TWICE = Restart(max_times=2, window_s=100.0, backoff_s=1.0)

TABLES: dict[str, Table] = {
    "nodes are started in order, and the last end is the program's": (
        [node("a/0"), node("b/0")],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            (ready("a/0"), []),
            (finished("a/0"), ["a/0 FINISHED"]),
            (finished("b/0"), ["b/0 FINISHED"]),
        ],
    ),
    "a node is started again when somebody asks for it, whatever its policy": (
        [node("a/0"), node("b/0")],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            (RestartAsked(name="a/0", origin="somebody"), ["kill a/0"]),
            (exited("a/0", signal=9), ["a/0 KILLED, again"]),
            (0, ["launch a/0 2"]),
            (finished("a/0", attempt=2), ["a/0 FINISHED"]),
            (RestartAsked(name="a/0", origin="somebody"), []),
            (RestartAsked(name="nobody/0", origin="somebody"), []),
        ],
    ),
    "a node that is added is started, and one that is removed is dismissed, alone": (
        [node("a/0"), node("b/0")],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            (add(node("a/1"), node("a/2")), ["add a/1 a/2"]),
            (0, ["launch a/1 1", "launch a/2 1"]),
            ([ready("a/1"), ready("a/2")], []),
            (remove("a/1", "nobody/0"), ["a/1 STOPPING, removed", "dismiss a/1"]),
            (remove("a/1"), []),
            (finished("a/1"), ["a/1 FINISHED"]),
            (remove("a/1"), []),
            (remove("b/0"), ["b/0 STOPPING, removed", "withdraw b/0", "dismiss b/0"]),  # it was being constructed
            (exited("b/0", 3), ["b/0 FAILED"]),
            (finished("a/0"), ["a/0 FINISHED"]),
            (finished("a/2"), ["a/2 FINISHED"]),
        ],
    ),
    "a node that is removed is ended step by step, as in a stop": (
        [node("a/0"), node("b/0", on_failure=TWICE)],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            ([ready("a/0"), ready("b/0")], []),
            (remove("b/0"), ["b/0 STOPPING, removed", "dismiss b/0"]),
            (RestartAsked(name="b/0", origin="somebody"), []),
            (4.9, []),
            (0.1, ["interrupt b/0"]),
            (3, ["terminate b/0"]),
            (2, ["kill b/0"]),
            (exited("b/0", signal=9), ["b/0 KILLED"]),
            (100, []),
            (finished("a/0"), ["a/0 FINISHED"]),
        ],
    ),
    "what even SIGKILL does not end is given up when it is removed, too": (
        [node("a/0")],
        [
            (0, ["launch a/0 1"]),
            (ready("a/0"), []),
            (remove("a/0"), ["a/0 STOPPING, removed", "dismiss a/0"]),
            (20, ["interrupt a/0", "terminate a/0", "kill a/0", "a/0 KILLED"]),
        ],
    ),
    "a node that is killed while it is removed fails nobody": (
        [node("a/0"), node("b/0")],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            ([ready("a/0"), ready("b/0")], []),
            (remove("b/0"), ["b/0 STOPPING, removed", "dismiss b/0"]),
            (exited("b/0", signal=9), ["b/0 FAILED"]),
            (finished("a/0"), ["a/0 FINISHED"]),
        ],
    ),
    "a node that waits for its restart is removed at once": (
        [node("a/0", on_failure=TWICE), node("b/0")],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            (raised("a/0"), ["a/0 FAILED, again"]),
            (remove("a/0"), ["a/0 stays ended, removed"]),
            (100, []),
            (finished("b/0"), ["b/0 FINISHED"]),
        ],
    ),
    "a node that is removed before it was started never is": (
        [node("a/0"), node("b/0")],
        [
            (remove("b/0"), ["b/0 FINISHED, removed"]),
            (0, ["launch a/0 1"]),
            (finished("a/0"), ["a/0 FINISHED"]),
        ],
    ),
    "a colocation of processes is removed as a whole": (
        [*unit(node("u/0:a", on_failure=TWICE), node("u/0:b")), node("c/0")],
        [
            (0, ["launch u/0:a 1", "launch u/0:b 1", "launch c/0 1"]),
            (raised("u/0:a"), ["u/0:a FAILED, again"]),
            (ready("u/0:b"), ["u/0 READY"]),
            (remove("u/0:b"), []),  # a part
            (
                remove("u/0"),
                ["u/0 STOPPING, removed", "u/0:a stays ended, removed", "u/0:b STOPPING, removed", "dismiss u/0:b"],
            ),
            (raised("u/0:b"), ["u/0:b FAILED", "u/0 FAILED"]),
            (finished("c/0"), ["c/0 FINISHED"]),
        ],
    ),
    "a colocation of threads is removed with its process, though its threads have ended": (
        [*threads(on_failure="ignore"), node("b/0")],
        [
            (0, ["launch c/0 1", "launch b/0 1"]),
            ([ready("c/0"), reported("c/0:a", Outcome(kind="finished"))], ["c/0:a FINISHED"]),
            (reported("c/0:b", Outcome(kind="finished")), ["c/0:b FINISHED"]),
            (
                remove("c/0"),
                ["c/0 STOPPING, removed", "dismiss c/0", "c/0:a stays ended, removed", "c/0:b stays ended, removed"],
            ),
            (finished("c/0"), ["c/0 FINISHED"]),
            (finished("b/0"), ["b/0 FINISHED"]),
        ],
    ),
    "a program that stops takes no nodes, and ends with those that are being removed": (
        [node("a/0"), node("b/0")],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            ([ready("a/0"), ready("b/0")], []),
            (remove("b/0"), ["b/0 STOPPING, removed", "dismiss b/0"]),
            (stop(), ["stop: enough", "a/0 STOPPING", "b/0 STOPPING"]),
            (add(node("a/1")), []),
            (remove("a/0"), []),
            (finished("a/0"), ["a/0 FINISHED"]),
            (5, ["release", "interrupt b/0"]),
            (exited("b/0", signal=9), ["b/0 FAILED"]),
        ],
    ),
    "a failure stops the others": (
        [node("a/0"), node("b/0")],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            (ready("b/0"), []),
            (
                raised("a/0"),
                [
                    "stop: a/0 raised ValueError: x",
                    "b/0 STOPPING",
                    "failure: a/0 raised ValueError: x",
                    "a/0 FAILED",
                ],
            ),
            (finished("b/0"), ["b/0 FINISHED", "release"]),
        ],
    ),
    "a failure that is ignored stops nothing": (
        [node("a/0", on_failure="ignore"), node("b/0")],
        [(0, ["launch a/0 1", "launch b/0 1"]), (raised("a/0"), ["a/0 FAILED"]), (finished("b/0"), ["b/0 FINISHED"])],
    ),
    "a restart waits longer each time, and the last failure is the program's": (
        [node("a/0", on_failure=TWICE)],
        [
            (0, ["launch a/0 1"]),
            (exited("a/0", signal=9), ["a/0 FAILED, again"]),
            (0.9, []),
            (0.1, ["launch a/0 2"]),
            (exited("a/0", signal=9, attempt=1), []),  # told twice
            (exited("a/0", signal=9, attempt=2), ["a/0 FAILED, again"]),
            (1.9, []),
            (0.1, ["launch a/0 3"]),
            (
                exited("a/0", signal=9, attempt=3),
                [
                    "stop: a/0 was killed by SIGKILL",
                    "release",
                    "failure: a/0 was killed by SIGKILL",
                    "a/0 FAILED",
                ],
            ),
        ],
    ),
    "restarts are forgotten after their window": (
        [node("a/0", on_failure=Restart(max_times=1, window_s=10.0, backoff_s=0.0))],
        [
            (0, ["launch a/0 1"]),
            (raised("a/0"), ["a/0 FAILED, again"]),
            (10, ["launch a/0 2"]),
            (raised("a/0", 2), ["a/0 FAILED, again"]),
            (0, ["launch a/0 3"]),
            (finished("a/0", 3), ["a/0 FINISHED"]),
        ],
    ),
    "a stop gives up a restart that was due": (
        [node("a/0", on_failure=TWICE), node("b/0")],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            (ready("b/0"), []),
            (raised("a/0"), ["a/0 FAILED, again"]),
            (stop(), ["stop: enough", "b/0 STOPPING", "a/0 will not restart"]),
            (finished("b/0"), ["b/0 FINISHED", "release"]),
        ],
    ),
    "a stop insists step by step on those that are left": (
        [node("ask/0"), node("interrupt/0"), node("terminate/0"), node("kill/0")],
        [
            (0, [f"launch {name}/0 1" for name in ("ask", "interrupt", "terminate", "kill")]),
            ([ready(f"{name}/0") for name in ("ask", "interrupt", "terminate", "kill")], []),
            (stop(), ["stop: enough", *(f"{name}/0 STOPPING" for name in ("ask", "interrupt", "terminate", "kill"))]),
            (stop("again"), []),
            (finished("ask/0"), ["ask/0 FINISHED"]),
            (4.9, []),
            (0.1, ["release", "interrupt interrupt/0", "interrupt terminate/0", "interrupt kill/0"]),
            (finished("interrupt/0"), ["interrupt/0 FINISHED"]),
            (3, ["terminate terminate/0", "terminate kill/0"]),
            (exited("terminate/0", signal=15), ["terminate/0 KILLED"]),
            (2, ["kill kill/0"]),
            (exited("kill/0", signal=9), ["kill/0 KILLED"]),
        ],
    ),
    "a process that survives SIGKILL is left behind": (
        [node("a/0")],
        [
            (0, ["launch a/0 1"]),
            (ready("a/0"), []),
            (stop(at_once=True), ["stop: enough", "a/0 STOPPING"]),
            (0, ["kill a/0"]),
            (9.9, []),
            (0.1, ["a/0 KILLED", "release"]),
        ],
    ),
    "whoever presses Ctrl-C again and again does not wait for longer": (
        [node("a/0")],
        [
            (0, ["launch a/0 1"]),
            (stop(at_once=True), ["stop: enough", "a/0 STOPPING", "withdraw a/0"]),
            (0, ["kill a/0"]),
            (6, []),
            ([stop(at_once=True)], []),
            (0, ["kill a/0"]),
            (4, ["a/0 KILLED", "release"]),
        ],
    ),
    "a second Ctrl-C kills at once": (
        [node("a/0")],
        [
            (0, ["launch a/0 1"]),
            (ready("a/0"), []),
            (stop(), ["stop: enough", "a/0 STOPPING"]),
            ([stop(at_once=True)], []),
            (0, ["kill a/0"]),
            (exited("a/0", signal=9), ["a/0 KILLED", "release"]),
        ],
    ),
    "a node that is still starting is told of a stop as others are, but does not begin any more": (
        [node("late/0"), node("ready/0")],
        [
            (0, ["launch late/0 1", "launch ready/0 1"]),
            (ready("ready/0"), []),
            (stop(), ["stop: enough", "late/0 STOPPING", "withdraw late/0", "ready/0 STOPPING"]),
        ],
    ),
    "nodes that only serve are released when the others have ended": (
        [node("server/0", serves_only=True), node("late/0"), node("worker/0")],
        [
            (0, ["launch server/0 1", "launch late/0 1", "launch worker/0 1"]),
            ([ready("server/0", serves_only=True), ready("late/0", serves_only=True), ready("worker/0")], []),
            (stop(), ["stop: enough", "server/0 STOPPING", "late/0 STOPPING", "worker/0 STOPPING"]),
            (finished("worker/0"), ["worker/0 FINISHED", "release"]),
        ],
    ),
    "a stop before all are started starts no more of them": (
        [node("a/0"), node("b/0"), *unit(node("u/0:0"))],
        [
            (stop(), ["stop: enough", "a/0 FINISHED", "b/0 FINISHED", "u/0 FINISHED", "u/0:0 FINISHED", "release"]),
            (0, []),
        ],
    ),
    "a SIGTERM to all processes is the stop that follows": (
        [node("a/0", on_failure=TWICE), node("b/0")],
        [
            (0, ["launch a/0 1", "launch b/0 1"]),
            ([ready("a/0"), ready("b/0"), exited("a/0", signal=15), exited("b/0", signal=15)], []),
            (0.4, []),
            (
                stop(),
                ["stop: enough", "a/0 STOPPING", "b/0 STOPPING", "a/0 KILLED", "b/0 KILLED", "release"],
            ),
        ],
    ),
    "a SIGTERM that no stop follows is a failure": (
        [node("a/0", on_failure=TWICE)],
        [
            (0, ["launch a/0 1"]),
            (exited("a/0", signal=15), []),
            (0.4, []),
            (exited("a/0", signal=15), []),  # told twice
            (0.1, ["a/0 FAILED, again"]),
            (1, ["launch a/0 2"]),
        ],
    ),
    "a unit is ready when its parts are, and ends with the last": (
        unit(node("u/0:0"), node("u/0:1")),
        [
            (0, ["launch u/0:0 1", "launch u/0:1 1"]),
            (ready("u/0:0"), []),
            (ready("u/0:1"), ["u/0 READY"]),
            (finished("u/0:0"), ["u/0:0 FINISHED"]),
            (finished("u/0:1"), ["u/0:1 FINISHED", "u/0 FINISHED"]),
        ],
    ),
    "a unit lives and dies as one": (
        unit(node("u/0:0"), node("u/0:1"), node("u/0:2", on_failure=TWICE), on_failure=TWICE),
        [
            (0, ["launch u/0:0 1", "launch u/0:1 1", "launch u/0:2 1"]),
            (exited("u/0:2", 3), ["u/0:2 FAILED, again"]),
            (
                exited("u/0:0", 3),
                ["interrupt u/0:1", "kill u/0:1", "u/0:2 will not restart", "u/0:0 FAILED"],
            ),
            (
                exited("u/0:1", signal=9),
                ["u/0:1 KILLED", "u/0 FAILED, again", *(f"u/0:{i} may restart" for i in range(3))],
            ),
            (1, ["launch u/0:0 2", "launch u/0:1 2", "launch u/0:2 2"]),
            (30, []),
        ],
    ),
    "a unit in a unit that fails is not started again": (
        [
            node("u/0", placement=Placement.UNIT, on_failure="ignore"),
            node("u/0:0", placement=Placement.UNIT, parent="u/0", on_failure=TWICE),
            *(node(f"u/0:0:{i}", parent="u/0:0") for i in range(2)),
            node("u/0:1", parent="u/0"),
        ],
        [
            (0, ["launch u/0:0:0 1", "launch u/0:0:1 1", "launch u/0:1 1"]),
            (exited("u/0:0:0", 3), ["interrupt u/0:0:1", "kill u/0:0:1", "u/0:0:0 FAILED"]),
            (exited("u/0:1", 3), ["interrupt u/0:0:1", "kill u/0:0:1", "u/0:1 FAILED"]),
            (exited("u/0:0:1", signal=9), ["u/0:0:1 KILLED", "u/0:0 FAILED", "u/0 FAILED"]),
            (30, []),
        ],
    ),
    "a unit fares as its worst part": (
        unit(node("u/0:0"), node("u/0:1")),
        [
            (0, ["launch u/0:0 1", "launch u/0:1 1"]),
            ([ready("u/0:0"), ready("u/0:1")], ["u/0 READY"]),
            (stop(), ["stop: enough", "u/0 STOPPING", "u/0:0 STOPPING", "u/0:1 STOPPING"]),
            (exited("u/0:0", signal=15), ["u/0:0 KILLED"]),
            (finished("u/0:1"), ["u/0:1 FINISHED", "u/0 KILLED", "release"]),
        ],
    ),
    "the part that raised first is a unit's failure, whichever process ends first": (
        unit(node("u/0:0"), node("u/0:1"), on_failure="ignore"),
        [
            (0, ["launch u/0:0 1", "launch u/0:1 1"]),
            ([reported("u/0:1", Outcome(kind="raised", code=1, exception="Cause")), *raised("u/0:0")], []),
            (
                exited("u/0:1", 1),
                ["interrupt u/0:0", "kill u/0:0", "u/0:1 FAILED", "u/0:0 FAILED", "u/0 FAILED"],
            ),
        ],
    ),
    "a part that was killed is a unit's failure, though another raised because of it": (
        unit(node("u/0:0"), node("u/0:1"), on_failure="ignore"),
        [
            (0, ["launch u/0:0 1", "launch u/0:1 1"]),
            (reported("u/0:1", Outcome(kind="raised", code=1, exception="Effect")), []),
            (exited("u/0:0", signal=9), ["interrupt u/0:1", "kill u/0:1", "u/0:0 FAILED"]),
            (exited("u/0:1", 1), ["u/0:1 FAILED", "u/0 FAILED"]),
        ],
    ),
    "a part that follows another which does not end is judged in the end": (
        unit(node("u/0:0"), node("u/0:1"), on_failure="ignore"),
        [
            (0, ["launch u/0:0 1", "launch u/0:1 1"]),
            ([reported("u/0:1", Outcome(kind="raised", code=1, exception="Cause")), *raised("u/0:0")], []),
            (1.9, []),
            (0.1, ["interrupt u/0:1", "kill u/0:1", "u/0:0 FAILED"]),
            (exited("u/0:1", signal=9), ["u/0:1 KILLED", "u/0 FAILED"]),
        ],
    ),
    "threads live and die in their colocation's process": (
        threads(on_failure=TWICE),
        [
            (0, ["launch c/0 1"]),
            (reported("c/0:b", Outcome(kind="raised", code=1)), ["c/0:b FAILED, again"]),
            (
                exited("c/0", 1),
                ["c/0:a FAILED", "c/0 FAILED, again", "c/0:a may restart"],
            ),
            (1, ["launch c/0 2"]),
            (
                [reported(f"c/0:{name}", Outcome(kind="finished"), 2) for name in "ab"],
                ["c/0:a FINISHED", "c/0:b FINISHED"],
            ),
            (finished("c/0", 2), ["c/0 FINISHED"]),
        ],
    ),
    "a thread that ends after another one has failed may come back with it": (
        [node("c/0", on_failure=TWICE), *(node(f"c/0:{name}", on_failure=TWICE, **IN_C) for name in "abc")],
        [
            (0, ["launch c/0 1"]),
            (reported("c/0:a", Outcome(kind="finished")), ["c/0:a FINISHED"]),
            (reported("c/0:b", Outcome(kind="raised", code=1)), ["c/0:b FAILED, again"]),
            (reported("c/0:c", Outcome(kind="finished")), ["c/0:c FINISHED, again"]),
            (exited("c/0", 1), ["c/0 FAILED, again", "c/0:a may restart"]),
            (1, ["launch c/0 2"]),
            (reported("c/0:c", Outcome(kind="finished"), 2), ["c/0:c FINISHED"]),
        ],
    ),
    "threads are judged with their process, also after a SIGTERM to it": (
        threads(on_failure=Restart(backoff_s=0.0)),
        [
            (0, ["launch c/0 1"]),
            (exited("c/0", signal=15), []),
            (
                0.5,
                ["c/0:a FAILED", "c/0:b FAILED, again", "c/0 FAILED, again", "c/0:a may restart", "launch c/0 2"],
            ),
        ],
    ),
    "what nobody knows of is no event": (
        [node("a/0")],
        [(0, ["launch a/0 1"]), (ready("b/0"), []), (exited("a/0", attempt=2), []), (exited("a/0", attempt=0), [])],
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_table(case):
    nodes, steps = TABLES[case]
    play = Play(plan_of(*nodes))
    for happens, expected in steps:
        if isinstance(happens, (int, float)):
            told = play.wait(happens)
        else:
            told = [
                done for event in (happens if isinstance(happens, list) else [happens]) for done in play.tell(event)
            ]
        assert in_short(told) == expected, happens


def test_threads_are_where_their_process_is():
    play = Play(plan_of(*threads()))
    play.wait()
    told = [*play.tell(Placed(name="c/0", attempt=1, host="there")), *play.tell(Started(name="c/0", attempt=1, pid=7))]
    names = ["c/0", "c/0:a", "c/0:b"]
    assert told == [
        *(do.Change(name=name, changes={"host": "there"}) for name in names),
        *(do.Change(name=name, changes={"pid": 7}) for name in names),
    ]


def test_who_pressed_ctrl_c_is_told_what_the_end_waits_for():
    # Given workers, and a server that is not waited for yet
    play = Play(plan_of(*(node(f"a/{i}") for i in range(7)), node("server/0", serves_only=True)))
    play.wait()
    play.tell(stop(interrupted_by(130)))
    # When, Then
    assert [done for done in play.wait(1.0) if isinstance(done, do.Warn)] == [
        do.Warn(
            text="kourou: waiting up to 9 s for a/0, a/1, a/2, a/3, a/4 and 2 more to end; Ctrl-C again kills at once"
        )
    ]


def test_who_is_not_ready_is_named_also_after_a_restart():
    play = Play(plan_of(node("a/0", on_failure=Restart(backoff_s=0.0))))

    def named(seconds):
        return [done.text for done in play.wait(seconds) if isinstance(done, do.Warn)]

    assert "waiting for 1 of 1 nodes to be ready: a/0 (STARTING for 10 s" in "".join(named(10.0))
    play.tell(ready("a/0"))
    assert named(100.0) == []
    play.tell(exited("a/0", 1))
    assert "a/0 (STARTING for 10 s" in "".join(named(10.0))


def test_an_exit_record_says_what_is_known():
    play = Play(plan_of(node("a/0", on_failure="ignore")))
    play.wait(1.0)
    play.tell(Started(name="a/0", attempt=1, pid=47))
    play.wait(1.5)
    told = [done for event in raised("a/0") for done in play.tell(event)]
    (end,) = (done for done in told if isinstance(done, do.End))
    record = end.record
    assert (record.state, record.cause, record.traceback) == (NodeState.FAILED, "raised ValueError: x", "Traceback: x")
    assert (record.host, record.pid, record.uptime_s) == ("here", 47, 2.5)
    assert (record.last_lines, record.log_file) == (("last words",), "logs/a/0")


def test_what_a_failure_leads_to_is_told_in_the_nodes_log():
    # Given a node with one restart, and one whose failure is of no consequence
    play = Play(plan_of(node("a/0", on_failure=Restart(max_times=1, backoff_s=2.0)), node("b/0", on_failure="ignore")))
    play.wait()

    def told(*happens):
        return [(done.name, done.text) for each in happens for done in play.tell(each) if isinstance(done, do.Tell)]

    # When they fail, Then it is said what follows
    assert told(*raised("b/0")) == [
        ("b/0", "raised ValueError: x (attempt 1, after 0.0 s); it is left at that (on_failure='ignore')")
    ]
    play.wait(1.5)
    assert told(exited("a/0", signal=9)) == [
        ("a/0", "was killed by SIGKILL (attempt 1, after 1.5 s); it starts again in 2 s (restart 1 of 1 in 300 s)")
    ]
    play.wait(2.0)
    assert told(Placed(name="a/0", attempt=2, host="here"), Placed(name="a/0", attempt=2, host="there")) == [
        ("a/0", "attempt 2 is on there, the one before was on here")
    ]
    assert told(*raised("a/0", attempt=2)) == [
        ("a/0", "raised ValueError: x (attempt 2, after 0.0 s); all restarts are used up (1 in 300 s)")
    ]


def test_a_unit_that_failed_ends_with_inner_ones_whose_parts_wait_for_a_restart():
    # Given a unit with a process and an inner unit, whose only process waits to be started again
    play = Play(
        plan_of(
            node("u/0", placement=Placement.UNIT, on_failure="ignore"),
            node("u/0:0", parent="u/0"),
            node("u/0:1", parent="u/0", placement=Placement.UNIT),
            node("u/0:1:0", parent="u/0:1", on_failure=Restart(backoff_s=5.0)),
        )
    )
    play.wait()
    for event in [*raised("u/0:1:0"), *raised("u/0:0")]:
        play.tell(event)
    # When the other one fails for good, then all of it has ended, and nothing is waited for
    assert play.machine.ended
