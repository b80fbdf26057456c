"""Hosts as users write them, and which process goes where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

import kourou as lp
from kourou.errors import GraphError, PlanError
from kourou.runtime.model.inventory import Request
from kourou.runtime.plan.placement import place
from kourou.runtime.plan.plan import LaunchPlan


def compiled(program: lp.Program, *hosts: str | lp.Host, **options: Any) -> LaunchPlan:
    return lp.compile_program(program, "ssh", hosts=list(hosts), **options)


def workers(count: int, label: str = "worker") -> lp.Program:
    program = lp.Program("placed")
    for _ in range(count):
        program.add_node(lp.PyNode(print), label=label)
    return program


def where(plan: LaunchPlan) -> list[str]:
    return [node.site.host if node.site else "" for node in plan.nodes]


def test_a_file_of_hosts_is_read_line_by_line(tmp_path) -> None:
    path = tmp_path / "hosts"
    path.write_text(
        "# all of them\n\nuser@a cpus=8 gpus=2 slots=4\nb address=10.0.0.2 python='/opt/my python'  # slow\n"
    )
    hosts = lp.Hosts.from_file(path, ssh_config="conf", sync="rsync")
    assert hosts.hosts == (
        lp.Host("user@a", cpus=8, gpus=2, slots=4),
        lp.Host("b", address="10.0.0.2", python="/opt/my python"),
    )
    assert (hosts.ssh_config, hosts.sync) == ("conf", "rsync")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\nb cpu=8\n", r"hosts, line 2: 'cpu=8' is none of cpus=…"),
        ("a cpus=many\n", "line 1: invalid literal"),
        ("a slots=0\n", "line 1: host a: slots"),
        ("a 'x\n", "line 1: No closing quotation"),
        ("a\na\n", "names a more than once"),
        ("# nobody\n", "at least one name"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path, text, words) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(GraphError, match=words):
        lp.Hosts.from_file(path)


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(GraphError, match="no such 'file'"):
        lp.Hosts.from_file(tmp_path / "no such 'file'")


@pytest.mark.parametrize("name", ["", "-oProxyCommand=x", "a b", 7])
def test_a_name_that_ssh_would_take_for_something_else_is_refused(name: Any) -> None:
    with pytest.raises(GraphError, match="one word that ssh knows"):
        lp.Host(name)


@pytest.mark.parametrize(
    "fields",
    [
        {"lost_after_s": 0},
        {"connect_timeout_s": float("nan")},
        {"sync": "scp"},
        {"copy_env_vars": "HF_*"},
    ],
)
def test_fields_without_a_meaning_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match=next(iter(fields))):
        lp.Hosts(["a"], **fields)


def test_nodes_are_spread_over_hosts_by_default() -> None:
    assert where(compiled(workers(5), "a", "b")) == ["a", "b", "a", "b", "a"]


def test_a_host_with_more_cpus_gets_more_nodes() -> None:
    hosts = (lp.Host("small", cpus=1), lp.Host("large", cpus=4))
    placed = where(compiled(workers(10), *hosts))
    assert (placed.count("small"), placed.count("large")) == (2, 8)


def test_the_user_says_where_and_the_rest_goes_where_there_is_room() -> None:
    program = workers(4, "actor")
    program.add_node(lp.PyNode(print), label="learner")
    placement = {"actor": {"a": 1, "b": 3}, "learner": ["b", "c"]}
    plan = compiled(program, "a", "b", "c", placement=placement)
    assert where(plan) == ["a", "b", "b", "b", "c"]
    assert [node.site and node.site.others for node in plan.nodes] == [("b",), ("a",), ("a",), ("a",), ("b",)]
    assert where(compiled(workers(2), "a", "b", placement={"worker": "b"})) == ["b", "b"]
    anywhere = compiled(workers(1), "a", "b").nodes[0].site
    assert anywhere
    assert anywhere.others is None


def test_the_processes_of_a_colocation_stay_together() -> None:
    program = lp.Program("together")
    for _ in range(2):
        inner = [lp.PyNode(print), lp.PyNode(print)]
        program.add_node(lp.MultiProcessingColocation(inner), label="pair")
    plan = compiled(program, "a", "b")
    assert {node.name: node.site.host for node in plan.nodes if node.site} == {
        "pair/0:0": "a",
        "pair/0:1": "a",
        "pair/1:0": "b",
        "pair/1:1": "b",
    }


def test_devices_are_those_of_the_nodes_own_host() -> None:
    resources = {"worker": lp.Resources(cpus=1, gpus=1)}
    hosts = (lp.Host("a", cpus=(4, 5), gpus=("7",)), lp.Host("b", cpus=2, gpus=2))
    plan = compiled(workers(3), *hosts, local_resources=resources)
    got = [(n.site.host, n.process.cpus, dict(n.process.env)["CUDA_VISIBLE_DEVICES"]) for n in plan.nodes]  # type: ignore[union-attr]
    assert got == [("a", (4,), "7"), ("b", (0,), "0"), ("b", (1,), "1")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hosts": [lp.Host("a", slots=2)]}, r"worker/2: no host has room; a has slots for 2, and 2 are taken"),
        (
            {"hosts": [lp.Host("a", cpus=2)], "local_resources": {"worker": lp.Resources(cpus=1)}},
            r"worker/2: no host has room; a: 3 CPUs are asked for",
        ),
        ({"hosts": ["a"], "local_resources": {"worker": lp.Resources(gpus=1)}}, "it is not known what it has"),
        ({"hosts": ["a"], "placement": {"worker": "b"}}, "b is none of the hosts a"),
        ({"hosts": ["a"], "placement": {"walker": "a"}}, r"placement\['walker'\]: the program has no such label"),
        ({"hosts": ["a"], "placement": {"worker": {"a": 2}}}, "has to give a host to each of its 3 processes"),
        ({"hosts": ["a"], "placement": {"worker": []}}, "names no host"),
        ({"hosts": []}, "at least one name"),
        ({}, "needs hosts="),
    ],
)
def test_mistakes_are_told_when_the_plan_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        lp.compile_program(workers(3), "ssh", **options)


def test_hosts_are_for_ssh_only() -> None:
    with pytest.raises(PlanError, match="hosts and placement are for launch_type='ssh'"):
        lp.compile_program(workers(1), "local_mp", hosts=["a"])


def test_the_plan_as_json_tells_hosts_and_sites() -> None:
    data = compiled(workers(1), lp.Host("a", cpus=2)).to_dict()
    assert data["hosts"]["hosts"][0]["name"] == "a"
    assert data["nodes"][0]["site"] == {"host": "a", "others": None, "cpus": None, "gpus": None}


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from([None, 0.5, 1.0, 2.0]), st.sampled_from([None, 0.25, 1.0])), max_size=12),
)
def test_no_device_and_no_slot_is_given_twice(machines, asks) -> None:
    hosts = lp.Hosts([lp.Host(f"h{i}", cpus=c, gpus=g, slots=s) for i, (c, g, s) in enumerate(machines)])
    requests = [Request(name=f"n/{i}", cpus=cpus, gpus=gpus) for i, (cpus, gpus) in enumerate(asks)]
    try:
        sites, allocations = place(requests, hosts, {})
    except PlanError:
        return
    assert set(sites) == {request.name for request in requests}
    for host in hosts.all:
        here = [r for r in requests if sites[r.name].host == host.name]
        assert len(here) <= (host.slots or 0)
        for kind in ("cpus", "gpus"):
            whole = [d for r in here if (getattr(r, kind) or 0) >= 1 for d in getattr(allocations[r.name], kind) or ()]
            assert len(whole) == len(set(whole))
            assert set(whole) <= set(getattr(host.inventory, kind))
