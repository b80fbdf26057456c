"""What is said of a frozen picture of a program."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kourou.courier.serving.reports import BatchReport, CallReport, ServerReport
from kourou.runtime.diagnosis import ended, stuck
from kourou.runtime.diagnosis.finding import Diagnosis, Finding, Severity
from kourou.runtime.diagnosis.snapshot import Snapshot
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState
from kourou.runtime.model.reports import NodeReport, TableReport
from kourou.runtime.model.status import RunState, RunStatus
from kourou.waits import Activity, Wait

NOW = 1000.0
SERVER = ServerReport(answered=3, usual_s={}, threads=16, queued=0, calls=(), batches=())


def does(who: str, doing: str = "", on: str = "", what: str = "", for_s: float = 5.0, cpu_s: float = 0.0) -> Activity:
    wait = Wait(on=on, what=what, for_s=for_s, ends="it answers") if on else None
    place = f"{who.partition('/')[0]}.py:7 in {doing or 'run'}"
    thread = hash((who, doing, on))
    return Activity(who=who, doing=doing, for_s=for_s, thread=thread, cpu_s=cpu_s, where=place, wait=wait)


def picture(
    *activities: Activity,
    nodes: dict[str, NodeState | NodeRecord] | None = None,
    servers: dict[str, ServerReport] | None = None,
    **options: Any,
) -> Snapshot:
    """All nodes are READY that ``nodes`` does not tell of; those that are, tell what they do."""
    named = {one.who for one in activities} | {one.wait.on for one in activities if one.wait} | set(servers or {})
    tables = options.pop("tables", {})
    named |= set(tables) | set(options.get("silent", ())) | set(nodes or {})
    records = []
    named.discard("a debugger")
    for name in sorted(named):
        told = (nodes or {}).get(name, NodeState.READY)
        made = told if isinstance(told, NodeRecord) else NodeRecord(name=name, state=told, started_at=NOW - 5, pid=7)
        records.append(made)
    reports = {
        record.name: NodeReport(
            server=(servers or {}).get(record.name, SERVER),
            activities=tuple(one for one in activities if one.who == record.name),
            tables=tables.get(record.name, ()),
        )
        for record in records
        if record.state is NodeState.READY and record.name not in options.get("silent", ())
    }
    status = RunStatus(
        run_id="r",
        program="p",
        launch_type="local_mp",
        state=RunState.RUNNING,
        started_at=NOW - 6,
        nodes=tuple(records),
    )
    return Snapshot(taken_at=NOW, status=status, inputs=options.pop("inputs", {}), reports=reports, **options)


def earlier(now: Snapshot, by_s: float = 0.5) -> Snapshot:
    return dataclasses.replace(now, taken_at=now.taken_at - by_s)


def said(now: Snapshot, before: Snapshot | None = None) -> list[Finding]:
    return stuck.find(before or earlier(now), now)


def test_nothing_is_said_of_a_program_that_goes_on() -> None:
    now = picture(does("actor/0", on="learner/0", what="step", for_s=0.5), does("learner/0", "step", for_s=0.5))
    assert said(now) == []
    assert Diagnosis(run_id="r", state="running", findings=()).healthy


def test_handlers_that_hold_locks_make_a_circle() -> None:
    now = picture(
        does("a/0", "f", on="b/0", what="g"),
        does("b/0", "g"),
        does("b/0", "f", on="a/0", what="g"),
        does("a/0", "g"),
    )
    [finding] = said(now)
    assert (finding.kind, finding.severity) == ("cycle", Severity.ERROR)
    assert set(finding.nodes) == {"a/0", "b/0"}
    assert "a/0 waits for b/0 waits for a/0" in finding.text or "b/0 waits for a/0 waits for b/0" in finding.text
    assert "b/0 answers g, at b.py:7 in g" in finding.details


def test_a_full_pool_makes_a_circle() -> None:
    full = dataclasses.replace(SERVER, threads=1, queued=1, calls=(CallReport(method="h", for_s=None),))
    now = picture(does("a/0", "f", on="b/0", what="g"), does("b/0", "g", on="a/0", what="h"), servers={"a/0": full})
    [finding] = said(now)
    assert finding.kind == "cycle"
    assert "a/0 has no thread for h: all 1 are taken" in finding.details


def test_a_node_may_wait_for_itself() -> None:
    full = dataclasses.replace(SERVER, threads=1, queued=1)
    [finding] = said(picture(does("a/0", "f", on="a/0", what="g"), servers={"a/0": full}))
    assert (finding.kind, finding.text) == ("cycle", "a/0 waits for itself, for 5 s")


def test_a_call_back_that_computes_is_no_circle() -> None:
    now = picture(
        does("a/0", "f", on="b/0", what="g"), does("b/0", "g", on="a/0", what="h"), does("a/0", "h", cpu_s=2.0)
    )
    before = picture(does("a/0", "h", cpu_s=1.6), does("b/0"))
    findings = said(now, earlier(before))
    assert [(one.kind, one.severity) for one in findings] == [("slow", Severity.NOTE)]


def test_a_handler_that_mostly_takes_as_long_is_slow_and_no_more() -> None:
    usual = dataclasses.replace(SERVER, usual_s={"step": 4.0})
    now = picture(does("actor/0", on="learner/0", what="step"), does("learner/0", "step"), servers={"learner/0": usual})
    assert [(one.kind, one.severity) for one in said(now)] == [("slow", Severity.NOTE)]


@pytest.mark.parametrize(("for_s", "severity"), [(5.0, Severity.WARNING), (20.0, Severity.ERROR)])
def test_a_handler_that_stands_still_is_the_end_of_its_chains(for_s: float, severity: Severity) -> None:
    now = picture(
        does("x/0", on="y/0", what="m", for_s=for_s),
        does("y/0", "m", on="z/0", what="n", for_s=for_s),
        does("z/0", "n", for_s=for_s),
    )
    [finding] = said(now)
    assert (finding.kind, finding.nodes, finding.severity) == ("handler", ("z/0",), severity)
    assert set(finding.waiters) == {"x/0", "y/0"}
    assert "nearly all nodes wait for" in finding.text


def test_nobody_has_to_wait_for_a_handler_that_stands_still() -> None:
    [finding] = said(picture(does("z/0", "n")))
    assert (finding.kind, finding.nodes, finding.waiters) == ("handler", ("z/0",), ())


def test_a_pool_that_is_full_of_handlers() -> None:
    full = dataclasses.replace(SERVER, threads=1, queued=3)
    now = picture(
        does("a/0", on="s/0", what="m"), does("s/0", "m"), servers={"s/0": full}, nodes={"b/0": NodeState.READY}
    )
    [finding] = said(now)
    assert finding.kind == "pool"
    assert "all of its 1 threads are taken, and 3 calls wait for one" in finding.text


def test_a_batch_that_is_not_full() -> None:
    batch = BatchReport(method="act", waiting=1, size=8, for_s=5.0, due_s=55.0)
    now = picture(does("a/0", on="s/0", what="act"), servers={"s/0": dataclasses.replace(SERVER, batches=(batch,))})
    [finding] = said(now)
    assert (finding.kind, finding.ends) == ("batch", "7 more calls, or its time-out in 55 s")


def table(**changes: Any) -> TableReport:
    still = TableReport(
        name="q", inserts=3, samples=3, waiting_inserts=0, waiting_samples=1, waits_s=5.0, blocked_on="size 0"
    )
    return dataclasses.replace(still, **changes)


def test_a_starved_table() -> None:
    end = ExitRecord(node="actor/0", attempt=1, state=NodeState.FINISHED, cause="finished")
    gone = NodeRecord(name="actor/0", state=NodeState.FINISHED, exit=end)
    now = picture(
        does("learner/0", on="replay/0", what="a sample of table 'q'"),
        nodes={"actor/0": gone},
        tables={"replay/0": (table(),)},
        inputs={"learner/0": ("replay/0",), "actor/0": ("replay/0",)},
    )
    [finding] = said(now)
    assert finding.kind == "starved_table"
    assert finding.text == "table 'q' of replay/0 is starved: a sample waits for 5 s, and nobody inserts"
    assert "actor/0 has ended (finished)" in finding.details
    assert finding.waiters == ("learner/0",)
    report = dataclasses.replace(now.reports["replay/0"], tables=(table(inserts=2),))
    moved = dataclasses.replace(earlier(now), reports={**now.reports, "replay/0": report})
    assert "starved_table" not in [one.kind for one in said(now, moved)]


def test_a_full_table_that_nobody_samples() -> None:
    full = table(waiting_samples=0, waiting_inserts=4)
    [finding] = said(picture(tables={"replay/0": (full,)}))
    assert finding.text == "table 'q' of replay/0 is starved: 4 inserts wait for 5 s, and nobody samples"
    assert "no other node has a handle of replay/0" in finding.details


def test_a_table_that_moves_holds_back_whom_it_should() -> None:
    full = table(waiting_samples=0, waiting_inserts=1, waits_s=0.1)
    [finding] = said(picture(does("actor/0", on="replay/0", what="an insert"), tables={"replay/0": (full,)}))
    assert (finding.kind, finding.severity, finding.waiters) == ("limiter", Severity.NOTE, ("actor/0",))


def test_a_call_that_nobody_is_at() -> None:
    for for_s, severity in ((5.0, Severity.NOTE), (20.0, Severity.WARNING)):
        [finding] = said(picture(does("a/0", on="b/0", what="m", for_s=for_s), nodes={"b/0": NodeState.READY}))
        assert (finding.kind, finding.severity) == ("unanswered", severity)


def test_a_publisher_that_starts_is_told_of_itself() -> None:
    wait = does("actor/0", on="weights/0", what="a newer version of the weights 'policy'")
    now = picture(wait, nodes={"learner/0": NodeState.STARTING}, inputs={"learner/0": ("weights/0",)})
    assert [(one.kind, one.severity) for one in said(now)] == [
        ("not_ready", Severity.WARNING),
        ("weights", Severity.NOTE),
    ]


def test_a_version_that_nobody_publishes() -> None:
    wait = does("actor/0", on="weights/0", what="a newer version of the weights 'policy'")
    [finding] = said(picture(wait, does("weights/0"), inputs={"learner/0": ("weights/0",)}))
    assert (finding.kind, finding.severity) == ("weights", Severity.WARNING)
    assert "nobody publishes" in finding.text


def test_a_node_that_nothing_has_started() -> None:
    pending = NodeRecord(name="learner/0")
    [finding] = said(picture(does("actor/0", on="learner/0", what="step"), nodes={"learner/0": pending}))
    assert (finding.kind, finding.nodes, finding.waiters) == ("not_ready", ("learner/0",), ("actor/0",))
    assert "nothing has started it" in finding.text


def test_constructors_that_call_each_other() -> None:
    now = picture(
        nodes={"a/0": NodeState.STARTING, "b/0": NodeState.STARTING},
        inputs={"a/0": ("b/0",), "b/0": ("a/0",)},
        calling=frozenset({"a/0", "b/0"}),
        places={"a/0": "a.py:3 in __init__"},
    )
    [finding] = said(now)
    assert (finding.kind, set(finding.nodes)) == ("cycle", {"a/0", "b/0"})


def test_a_breakpoint() -> None:
    [finding] = said(picture(does("actor/0", on="a debugger", what="breakpoint()")))
    assert (finding.kind, finding.nodes) == ("breakpoint", ("actor/0",))
    assert finding.ends == "one attaches: kourou attach r actor/0"


@pytest.mark.parametrize(("for_s", "severity"), [(5.0, Severity.WARNING), (15.0, Severity.ERROR)])
def test_a_node_that_does_not_answer(for_s: float, severity: Severity) -> None:
    [finding] = said(picture(does("actor/0", on="learner/0", what="step", for_s=for_s), silent=("learner/0",)))
    assert (finding.kind, finding.severity, finding.waiters) == ("silent", severity, ("actor/0",))


def test_nodes_for_which_there_is_no_host_are_told_in_one_with_the_engines_words() -> None:
    now = picture(nodes={"actor/0": NodeState.PENDING, "learner/0": NodeState.PENDING})
    status = dataclasses.replace(now.status, launch_type="slurm", waits_for="job 7, which is pending: Resources")
    [finding] = said(dataclasses.replace(now, status=status))
    assert (finding.kind, finding.severity) == ("unplaced", Severity.WARNING)
    assert finding.nodes == ("actor/0", "learner/0")
    assert finding.details == ("slurm waits for job 7, which is pending: Resources",)


def test_what_is_the_same_of_many_nodes_is_said_once() -> None:
    [finding] = said(picture(silent=tuple(f"actor/{index}" for index in range(100))))
    assert len(finding.nodes) == 100
    assert "so it is with 99 others: " in finding.text


def test_a_node_that_nobody_has_called() -> None:
    idle = NodeRecord(name="idle/0", state=NodeState.READY, serves_only=True, started_at=NOW - 60)
    never = dataclasses.replace(SERVER, answered=0)
    [finding] = said(picture(nodes={"idle/0": idle}, servers={"idle/0": never}))
    assert (finding.kind, finding.severity) == ("uncalled", Severity.NOTE)


def test_nodes_that_only_serve_and_go_on_when_the_others_have_ended() -> None:
    server = NodeRecord(name="server/0", state=NodeState.READY, serves_only=True, started_at=NOW - 5)
    ended = ExitRecord(node="a/0", attempt=1, state=NodeState.FINISHED, cause="finished")
    worked = NodeRecord(name="a/0", state=NodeState.FINISHED, exit=ended)
    [finding] = said(picture(nodes={"server/0": server, "a/0": worked}))
    assert (finding.kind, finding.severity, finding.nodes) == ("only_servers", Severity.NOTE, ("server/0",))
    assert finding.ends == "somebody calls lp.stop(), or: kourou stop r"
    # Not while one works, or will again, nor where it was taken away
    for other in (
        dataclasses.replace(worked, will_restart=True),
        dataclasses.replace(worked, removed="kourou scale"),
    ):
        assert "only_servers" not in {one.kind for one in said(picture(nodes={"server/0": server, "a/0": other}))}


def test_a_diagnosis_is_as_bad_as_its_worst_finding() -> None:
    note, bad = (Finding(severity=one, kind="k", nodes=("a/0",), text="t") for one in (Severity.NOTE, Severity.ERROR))
    whole = Diagnosis(run_id="r", state="running", findings=(note, bad), summary="s")
    assert (whole.severity, whole.healthy) == (Severity.ERROR, False)
    assert whole.to_dict()["findings"][1]["severity"] == "error"
    assert "error: t" in str(whole)


# -- after the end -------------------------------------------------------------------------------------------------


def exit_event(node: str, state: str, cause: str, at: float = 9.0, attempt: int = 1) -> dict[str, Any]:
    record = ExitRecord(node=node, attempt=attempt, state=NodeState(state), cause=cause, uptime_s=3.0)
    return {"time": at, "event": "exit", **record.to_dict()}


def status(state: RunState, reason: str = "") -> RunStatus:
    return RunStatus(run_id="r", program="p", launch_type="local_mp", state=state, stop_reason=reason, started_at=1.0)


def test_the_failure_that_came_first_is_told_first() -> None:
    events = [
        exit_event("b/0", "FAILED", "raised ValueError: no such env"),
        exit_event("a/0", "FAILED", "raised NodeExited: b/0 has ended"),
    ]
    first, second = ended.find(status(RunState.FAILED), events)
    assert (first.nodes, first.severity) == (("b/0",), Severity.ERROR)
    assert "b/0 failed first: it raised ValueError: no such env" in first.text
    assert (second.nodes, second.severity) == (("a/0",), Severity.NOTE)


def test_failures_that_were_made_good_are_notes() -> None:
    events = [exit_event("b/0", "FAILED", "was killed by SIGKILL", attempt=attempt) for attempt in (1, 2)]
    [finding] = ended.find(status(RunState.FINISHED), events)
    assert (finding.kind, finding.severity) == ("restarted", Severity.NOTE)
    assert "b/0 failed, 2 times" in finding.text


def test_a_dead_launcher_and_an_interruption() -> None:
    assert [one.kind for one in ended.find(status(RunState.DEAD), [])] == ["dead"]
    assert [one.kind for one in ended.find(status(RunState.INTERRUPTED, "Ctrl-C"), [])] == ["interrupted"]


def test_what_was_slow() -> None:
    events: list[dict[str, Any]] = [
        {"time": 1.0, "event": "node", "name": "a/0", "state": "STARTING", "attempt": 1},
        {"time": 9.0, "event": "node", "name": "a/0", "state": "READY", "attempt": 1},
        {"time": 20.0, "event": "stop", "reason": "it is enough", "origin": "launcher"},
        {"time": 25.0, "event": "interrupt", "node": "a/0"},
        {"time": 29.0, "event": "kill", "node": "a/0"},
        exit_event("a/0", "KILLED", "did not end in time", at=30.0),
    ]
    findings = ended.find(status(RunState.FINISHED), events)
    assert [one.kind for one in findings] == ["killed", "slow_start", "slow_stop"]
    assert findings[1].text == "a/0 took 8 s to become ready"
    assert findings[2].text == "the stop took 10 s: a/0 ended late, though interrupted"


def test_a_long_chain_has_one_end() -> None:
    chain = [does(f"n/{i}", "m", on=f"n/{i + 1}", what="m") for i in range(200)]
    [finding] = said(picture(*chain, does("n/200", "m")))
    assert finding.nodes == ("n/200",)
    assert len(finding.waiters) == 200
