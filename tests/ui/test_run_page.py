"""What the pages of a run are made of."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kourou.courier.serving.reports import ServerReport
from kourou.runtime.metrics.reading import Curve
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState
from kourou.runtime.model.reports import CallsReport, NodeReport, TableReport
from kourou.runtime.model.status import RunState, RunStatus
from kourou.runtime.monitoring.sampling import NodeSample, RunSample
from kourou.ui.history import Lives, thinned
from kourou.ui.run_page import Plan, run_page
from kourou.waits import Activity, Wait

NOW = 1000.0
SERVER = ServerReport(answered=3, usual_s={}, threads=16, queued=2, calls=(), batches=())
TABLE = TableReport(
    name="q", inserts=9, samples=5, waiting_inserts=0, waiting_samples=1, waits_s=0.1, blocked_on="too few"
)


def plan(**processes: dict[str, Any]) -> Plan:
    nodes = [
        {"name": "replay/0", "kind": "ReplayNode(tables)", "inputs": []},
        {"name": "actor/0", "kind": "CourierNode(Actor)", "inputs": ["replay/0"]},
        {"name": "actor/1", "kind": "CourierNode(Actor)", "inputs": ["replay/0"]},
    ]
    return Plan({"nodes": [{"parent": None, "process": processes.get(str(one["name"])[:-2]), **one} for one in nodes]})


def sample(calls: int, *, at: float = NOW, waits: Wait | None = None) -> RunSample:
    names = ("replay/0", "actor/0", "actor/1")
    nodes = [
        NodeRecord(name=name, state=NodeState.READY, host="here", attempt=1, started_at=NOW - 60) for name in names
    ]
    status = RunStatus(
        run_id="r", program="p", launch_type="local_mp", state=RunState.RUNNING, started_at=NOW - 60, nodes=tuple(nodes)
    )
    doing = Activity(who="actor/0", doing="", for_s=9.0, thread=1, cpu_s=0.0, where="a.py:1 in run", wait=waits)
    calling = (CallsReport(on="replay/0", calls=calls, unanswered=1),)
    reports = {
        "replay/0": NodeReport(server=SERVER, tables=(TABLE,)),
        "actor/0": NodeReport(server=SERVER, calls=calling, activities=(doing,)),
        "actor/1": NodeReport(server=SERVER, calls=calling),
    }
    figures = {name: NodeSample(cpu_percent=10.0, memory_bytes=1 << 20) for name in names}
    return RunSample(status=status, taken_at=at, nodes=figures, launcher=NodeSample(), reports=reports)


def test_edges_have_rates_of_two_looks_and_what_is_in_flight() -> None:
    page = run_page(sample(150), plan(), sample(100, at=NOW - 2))
    assert page["graph"]["edges"] == [{"from": "actor", "to": "replay", "calls_per_s": 50.0, "unanswered": 2}]
    assert [(group["label"], group["replicas"], group["column"]) for group in page["graph"]["groups"]] == [
        ("replay", 1, 1),
        ("actor", 2, 0),
    ]
    assert [node["queued"] for node in page["nodes"]] == [2, 2, 2]
    assert [(table["node"], table["name"]) for table in page["tables"]] == [("replay/0", "q")]


def test_the_first_look_knows_no_rates_and_finds_nothing() -> None:
    page = run_page(sample(150), plan())
    assert page["graph"]["edges"][0]["calls_per_s"] is None
    assert (page["waits"], page["findings"]) == ([], [])


def test_a_connection_that_was_made_anew_has_no_negative_rate() -> None:
    [edge] = run_page(sample(3), plan(), sample(100, at=NOW - 2))["graph"]["edges"]
    assert edge["calls_per_s"] == 0.0


def test_waits_come_with_what_is_said_of_them() -> None:
    wait = Wait(on="replay/0", what="insert", for_s=12.0, ends="it answers")
    page = run_page(sample(2, waits=wait), plan(), sample(2, at=NOW - 2, waits=wait))
    [edge] = page["waits"]
    assert (edge["who"], edge["on"], edge["for_s"], edge["in_circle"]) == ("actor/0", "replay/0", 12.0, False)
    [finding] = page["findings"]
    assert finding["waiters"] == ("actor/0",)
    assert finding["severity"] == edge["severity"] == "note"  # the table's limiter holds it back, as it should


def test_a_wait_for_a_node_that_does_not_answer_is_as_bad_as_that() -> None:
    wait = Wait(on="replay/0", what="insert", for_s=12.0, ends="it answers")
    looks = [sample(2, at=at, waits=wait) for at in (NOW - 2, NOW)]
    reports = {name: report for name, report in looks[1].reports.items() if name != "replay/0"}
    before, now = (dataclasses.replace(look, reports=reports, silent=("replay/0",)) for look in looks)
    page = run_page(now, plan(), before)
    assert [edge["severity"] for edge in page["waits"]] == ["error"]
    assert [node["silent"] for node in page["nodes"]] == [True, False, False]


def test_hosts_have_what_their_nodes_take_and_were_given() -> None:
    given = {"cpus": [0, 1], "memory_bytes": 1 << 30, "env": {"CUDA_VISIBLE_DEVICES": "0,1"}}
    [host] = run_page(sample(1), plan(actor=given))["hosts"]
    assert (host["host"], host["nodes"], host["states"]) == ("here", 3, {"READY": 3})
    assert (host["cpu_percent"], host["memory_bytes"], host["cpus"], host["gpus"]) == (30.0, 3 << 20, 4, 4)
    assert host["given"][0] == {"node": "actor/0", "cpus": [0, 1], "gpus": ["0", "1"], "memory_bytes": 1 << 30}


def event(kind: str, time: float, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "time": time, **fields}


def test_the_lives_of_a_node_that_was_restarted() -> None:
    end = ExitRecord(node="a/0", attempt=1, state=NodeState.FAILED, cause="killed by SIGKILL", host="here")
    lives = Lives(
        [
            event("node", 1.0, name="a/0", state="PENDING", attempt=0),
            event("node", 2.0, name="a/0", state="STARTING", attempt=1),
            event("node", 3.0, name="a/0", state="READY", attempt=1),
            event("node", 3.5, name="a/0", state="READY", attempt=1),
            event("exit", 5.0, **end.to_dict()),
        ]
    )
    assert lives.page()["lives"][-1]["cause"] == end.cause
    lives.add(
        [
            event("restart", 5.1, node="a/0", attempt=2),
            event("node", 6.0, name="a/0", state="STARTING", attempt=2),
            event("stop", 9.0, reason="enough", origin="user"),
        ]
    )
    page = lives.page()
    first, second = page["lives"]
    assert (first["started_at"], first["ready_at"], first["ended_at"], first["cause"]) == (2.0, 3.0, 5.0, end.cause)
    assert (second["started_at"], second["ready_at"], second["ended_at"]) == (6.0, None, None)
    assert [mark["event"] for mark in page["marks"]] == ["restart", "stop"]
    # and once a launcher has begun again, what was before is past
    lives.add([event("begins again", 10.0), event("node", 11.0, name="a/0", state="STARTING", attempt=1)])
    assert [life["started_at"] for life in lives.page()["lives"]] == [11.0]


@pytest.mark.parametrize("count", [10, 799, 12_345])
def test_a_thinned_curve_keeps_its_ends_and_its_peaks(count: int) -> None:
    values = [0.0] * count
    values[count // 3], values[count // 2] = 7.0, -7.0
    curve = Curve("m", "n", [float(step) for step in range(count)], values)
    thin = thinned(curve, 100)
    assert len(thin.steps) <= 102
    assert (max(thin.values), min(thin.values)) == (7.0, -7.0)
    assert thin.steps == sorted(set(thin.steps))
    assert (thin.steps[0], thin.steps[-1]) == (0.0, count - 1.0)


def test_what_a_page_says_of_an_exit_is_short() -> None:
    end = ExitRecord(node="actor/0", attempt=1, state=NodeState.FAILED, cause="raised", traceback="t" * 10_000)
    one = sample(1)
    nodes = [dataclasses.replace(node, exit=end) for node in one.status.nodes]
    page = run_page(dataclasses.replace(one, status=dataclasses.replace(one.status, nodes=tuple(nodes))), plan())
    assert page["nodes"][0]["exit"] == {"cause": "raised", "attempt": 1}
