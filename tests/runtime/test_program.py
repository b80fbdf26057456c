"""Programs and groups, with Launchpad's meaning for what is a mistake."""

from __future__ import annotations

from typing import Any

import pytest

import kourou as lp


def nothing():
    pass


def node():
    return lp.PyNode(nothing)


def test_groups_and_nodes_keep_the_order_in_which_they_were_added():
    program = lp.Program("p")
    first, second, third = node(), node(), node()
    program.add_node(first, label="b")
    program.add_node(second, label="a")
    program.add_node(third, label="b")
    assert list(program.groups) == ["b", "a"]
    assert program.groups["b"] == [first, third]
    assert program.get_all_nodes() == [first, third, second]
    assert [n.name for n in program.get_all_nodes()] == ["b/0", "b/1", "a/0"]
    assert program.name == "p"
    assert repr(program) == "<Program 'p': b×2, a×1>"


def test_in_a_group_the_label_may_be_left_out_or_repeated():
    program = lp.Program("p")
    with program.group("actor"):
        assert program.current_group == "actor"
        program.add_node(node())
        program.add_node(node(), label="actor")
    with program.group("actor"):
        program.add_node(node())
    assert len(program.groups["actor"]) == 3


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda p: p.add_node(node()), r"Label should not be empty. Write add_node\(node, label=...\)"),
        (lambda p: p.add_node(node(), label=""), "Label should not be empty"),
        (lambda p: p.group("").__enter__(), "Label should not be empty"),
        (lambda p: p.current_group, "Current group is only available in group context"),
        (lambda p: p.add_node(node(), label="a/b"), "without '/'"),
        (lambda p: p.add_node(node(), label="a\0b"), "without '/'"),
        (lambda p: p.add_node(node(), label="caf\udce9"), "that UTF-8 has"),
        (lambda p: lp.Program("caf\udce9"), "that UTF-8 has"),
        (lambda p: p.add_node("no node", label="a"), "lp.CourierNode"),
        (lambda p: p.group("a", on_failure="restart").__enter__(), "on_failure is 'fail', 'ignore' or lp.Restart"),
        (lambda p: p.group("a", resources={"gpus": 1}).__enter__(), "resources are lp.Resources or lp.PythonProcess"),
        (lambda p: p.handle_to(""), "Label should not be empty"),
    ],
    ids=range(12),
)
def test_mistakes_are_value_errors_that_say_what_is_wrong(act, message):
    with pytest.raises(ValueError, match=message) as caught:
        act(lp.Program("p"))
    assert isinstance(caught.value, lp.errors.GraphError)


def test_another_label_in_a_group_and_nested_groups_are_mistakes():
    program = lp.Program("p")
    with program.group("actor"):
        with pytest.raises(ValueError, match=r"The given label does not match the current group: learner vs actor\."):
            program.add_node(node(), label="learner")
        with pytest.raises(ValueError, match=r"group\(\) cannot be nested"), program.group("learner"):
            pass
        program.add_node(node())
    assert list(program.groups) == ["actor"]


def test_a_group_ends_although_its_body_raises():
    program = lp.Program("p")
    with pytest.raises(KeyError), program.group("actor"):
        raise KeyError
    with program.group("learner"):
        assert program.current_group == "learner"


def test_a_node_belongs_to_one_program_once():
    one = node()
    lp.Program("p").add_node(one, label="a")
    with pytest.raises(ValueError, match="added before, as a/0"):
        lp.Program("q").add_node(one, label="b")


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_program_needs_a_name(name):
    with pytest.raises(lp.errors.GraphError):
        lp.Program(name)


def test_edges_are_the_handles_in_the_arguments():
    program = lp.Program("p")
    server = program.add_node(lp.CourierNode[Any](dict), label="server")
    caller = lp.PyNode(nothing, [server], deep={"x": (server,)})
    program.add_node(caller, label="caller")
    assert [handle.node_name for handle in caller.input_handles] == ["server/0", "server/0"]
    assert [path for path, _ in caller.iterate_handles()] == ["args[0][0]", "kwargs['deep']['x'][0]"]


@pytest.mark.parametrize("times", [0, -1, 1.5, True, "3"])
def test_a_restart_policy_is_checked_when_it_is_made(times):
    with pytest.raises(lp.errors.GraphError, match="max_times"):
        lp.Restart(max_times=times)


def test_the_delay_of_a_restart_doubles_up_to_a_limit():
    policy = lp.Restart(backoff_s=0.5)
    assert [policy.delay_s(count) for count in (0, 1, 2, 50, 1 << 20)] == [0.5, 1.0, 2.0, 30.0, 30.0]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1"])
def test_a_stop_timeline_is_checked_when_it_is_made(seconds):
    with pytest.raises(lp.errors.GraphError, match=r"StopTimeline\.ask_s"):
        lp.StopTimeline(ask_s=seconds)
