"""Runs under a simulated clock: lives of programs in which hosts die, networks are cut and calls are lost."""

from __future__ import annotations

import dataclasses
import random

import pytest

import kourou as lp
from kourou.errors import GraphError
from kourou.runtime.launch.decisions import state_machine
from kourou.runtime.launch.decisions.tracked_node import TrackedNode
from kourou.runtime.model import instructions as do
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.plan.plan import LaunchPlan, NodePlan, Placement, Site
from kourou.runtime.simulation.faults import Faults
from kourou.runtime.simulation.invariants import InvariantBroken, Invariants
from kourou.runtime.simulation.scaled_plan import enlarged, simulated_hosts
from kourou.runtime.simulation.simulation import Report, simulate
from runtime import playing

AGAIN = lp.Restart(max_times=3, window_s=600.0)
ALL_FAULTS = Faults.parse("node=2000%,host=300%,cut=500%,slow=5%,loss=1%,deaf=5%,delay=0.01,resize=60")


def own(name, **options):
    return NodePlan(name=name, kind="simulated", process=ProcessSpec(name=name, argv=()), **options)


def plan_of(nodes, hosts):
    """A plan of these nodes, placed."""
    sited = [dataclasses.replace(node, site=node.process and Site(host="host0")) for node in nodes]
    plan = LaunchPlan(program="simulated", launch_type=LaunchType.SSH, nodes=tuple(sited), hosts=simulated_hosts(hosts))
    return enlarged(plan, len(nodes))


def a_random_plan(chance: random.Random) -> LaunchPlan:
    """Servers, workers, colocations of threads and of processes, one in another, with policies of all kinds."""
    nodes: list[NodePlan] = []

    def policy():
        return chance.choice([AGAIN, AGAIN, AGAIN, lp.Restart(max_times=8), "ignore"])

    def add(name, depth, parent=None):
        kind = chance.choice(["alone", "alone", "threads", "unit"] if depth else ["alone", "threads"])
        options = {"parent": parent, "on_failure": policy()}
        if kind == "unit":
            nodes.append(NodePlan(name=name, kind="simulated", placement=Placement.UNIT, **options))
            for place in range(chance.randint(1, 4)):
                add(f"{name}:{place}", depth - 1, name)
            return
        inputs = tuple({"server/0", "server/1"} - {name}) if chance.random() < 0.7 else ()
        nodes.append(own(name, inputs=inputs, serves_only=chance.random() < 0.2, **options))
        for place in range(chance.randint(1, 3) if kind == "threads" else 0):
            inside = {"parent": name, "placement": Placement.IN_PARENT}
            nodes.append(NodePlan(name=f"{name}:{place}", kind="simulated", on_failure=options["on_failure"], **inside))

    for index in range(2):
        nodes.append(own(f"server/{index}", serves_only=True, on_failure=AGAIN))
    for index in range(chance.randint(3, 30)):
        add(f"worker/{index}", 2)
    return plan_of(nodes, chance.randint(1, 8))


def lives(seed: int) -> Report:
    chance = random.Random(seed)
    plan = a_random_plan(chance)
    return simulate(plan, seed=seed, faults=ALL_FAULTS, duration_s=chance.choice([1.0, 5.0, 60.0, 1800.0]))


def many(actors: int, hosts: int) -> LaunchPlan:
    nodes = [own("learner/0", on_failure=AGAIN), own("replay/0", serves_only=True, on_failure=AGAIN)]
    nodes += [own(f"actor/{i}", inputs=("learner/0", "replay/0"), on_failure=AGAIN) for i in range(actors)]
    return plan_of(nodes, hosts)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_to_hosts_and_networks(seed):
    assert lives(seed).broken is None


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_in_two_hundred_runs(seed):
    assert lives(1000 + seed).broken is None


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_day_of_ten_thousand_nodes():
    faults = Faults.parse("node=1%,host=1%,cut=1%,slow=1%,loss=0.1%,deaf=1%")
    report = simulate(many(9_998, 500), seed=0, faults=faults, duration_s=86_400.0)
    assert report.broken is None
    assert (report.nodes, report.hosts, report.failures) == (10_000, 500, 0)
    assert report.decisions["restarted"] > 4000


def test_a_run_without_faults():
    report = simulate(many(40, 4), seed=0, faults=Faults(), duration_s=100.0)
    assert (report.broken, report.failures, report.stop_reason) == (None, 0, "the simulated time is over")
    assert report.decisions == {"started": 42, "ended FINISHED": 42}
    assert report.all_ready_s is not None
    assert report.all_ready_s < 10.0


def test_the_same_seed_leads_to_the_same_run():
    first, again, other = (lives(seed).to_dict() for seed in (7, 7, 8))
    for report in (first, again, other):
        del report["wall_s"], report["event_us"]
    assert first == again != other


def test_a_host_that_dies_is_replaced_and_its_nodes_start_elsewhere():
    faults = Faults(host_per_hour=3.0)
    report = simulate(many(50, 10), seed=1, faults=faults, duration_s=600.0)
    assert report.broken is None
    assert report.decisions["fault: host died"] >= 1
    assert report.decisions["started on another host"] == report.decisions["restarted"] > 0


def test_work_for_each_event_does_not_grow_with_the_nodes():
    reports = [simulate(many(n, n // 10), seed=3, faults=Faults(), duration_s=60.0) for n in (50, 500)]
    few, more = ((each.events / each.nodes, each.messages / each.nodes) for each in reports)
    assert more == pytest.approx(few, rel=0.1)
    assert {report.most_instructions for report in reports} == {2}


class Counted(TrackedNode):
    """Counts how often anything of a node is looked at."""

    looks = 0

    def __getattribute__(self, name):
        Counted.looks += 1
        return super().__getattribute__(name)


class CountedPlan(NodePlan):
    """The same of its plan."""

    def __getattribute__(self, name):
        Counted.looks += 1
        return super().__getattribute__(name)


def test_the_director_looks_at_those_nodes_only_that_an_event_concerns(monkeypatch):
    monkeypatch.setattr(state_machine, "TrackedNode", Counted)

    def looks(units):
        nodes = []
        for number in range(units):
            unit = f"u/{number}"
            nodes.append(CountedPlan(name=unit, kind="fake", placement=Placement.UNIT, on_failure=AGAIN))
            nodes += [CountedPlan(name=f"{unit}:{i}", kind="fake", parent=unit) for i in range(3)]
        play = playing.Play(playing.plan_of(*nodes))
        play.wait()
        for node in nodes:
            if node.parent:
                play.tell(playing.ready(node.name))
        story = [*playing.raised("u/1:0"), playing.exited("u/1:1", signal=9), playing.exited("u/1:2", signal=9)]
        found = []
        for event in story:
            Counted.looks = 0
            play.tell(event)
            found.append(Counted.looks)
        Counted.looks = 0
        play.wait(1.0)  # its restart
        return [*found, Counted.looks]

    assert looks(10) == looks(300)


def test_what_must_hold_is_noticed_when_it_does_not():
    plan = plan_of([own("a/0"), own("b/0", on_failure=AGAIN)], 1)

    def broken(*steps):
        watched = Invariants(plan)
        for step in steps[:-1]:
            step(watched)
        with pytest.raises(InvariantBroken) as told:
            steps[-1](watched)
        return str(told.value)

    def instructed(instruction, now=0.0):
        return lambda watched: watched.instructed(instruction, now)

    def begin(name, attempt):
        return instructed(do.Begin(name=name, attempt=attempt, host=""))

    end = instructed(
        do.End(record=ExitRecord(node="a/0", attempt=1, state=NodeState.FAILED, cause=""), will_restart=False)
    )
    began = [lambda watched: watched.process_began("a/0")] * 2
    assert broken(*began) == "a/0 runs twice"
    assert broken(begin("a/0", 1), end, end) == "attempt 1 of a/0 ends, and not once"
    assert broken(begin("a/0", 1), end, begin("a/0", 2)) == "a/0 begins again, and its policy is 'fail'"
    assert broken(begin("b/0", 2)) == "attempt 2 of b/0 is not the next one"
    assert "nothing is to come" in broken(lambda watched: watched.check(ended=False, due=float("inf"), now=0.0))
    late = [instructed(do.Stop(reason="")), lambda watched: watched.check(ended=False, due=50.0, now=50.0)]
    assert broken(*late) == "a stop does not end"
    records = [NodeRecord(name="a/0", attempt=1, state=state) for state in (NodeState.STOPPING, NodeState.READY)]
    assert broken(*(lambda watched, r=r: watched.recorded(r) for r in records)) == "a/0 was further than READY already"


def test_a_plan_is_enlarged_by_its_largest_group():
    unit = NodePlan(name="w/0", kind="simulated", placement=Placement.UNIT)
    parts = [own("w/0:0", parent="w/0", inputs=("w/0:1", "s/0")), own("w/0:1", parent="w/0")]
    plan = enlarged(plan_of([own("s/0"), unit, *parts, own("w/1")], 4), 11)
    assert [node.name for node in plan.nodes[5:]] == ["w/2", "w/2:0", "w/2:1", "w/3", "w/3:0", "w/3:1"]
    copy = plan.nodes[6]
    assert (copy.parent, copy.inputs, copy.process and copy.process.name) == ("w/2", ("w/2:1", "s/0"), "w/2:0")
    assert {node.site.host for node in plan.nodes if node.site} == {"host0", "host1", "host2", "host3"}


def test_faults_are_read_from_words():
    assert Faults.parse("") == Faults()
    assert Faults.parse("node=1%, host=0.5,delay=0.02") == Faults(node_per_hour=0.01, host_per_hour=0.5, delay_s=0.02)
    for text in ("nodes=1%", "node", "node=many", "node=-1%"):
        with pytest.raises(GraphError, match="--faults"):
            Faults.parse(text)
