"""Nodes that come and go while their program runs."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

import kourou as lp
from kourou import errors
from kourou.runtime.launch.decisions.state_machine import AddAsked
from kourou.runtime.launch.director import Director
from kourou.runtime.launch.run import Run
from kourou.runtime.model.events import StopAsked
from kourou.runtime.plan import addition
from kourou.testing.engines import LocalHosts
from leaks import DESCRIPTORS
from optional import pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

LAUNCH_TYPES = ["local_mt", "local_mp"]
QUICK = lp.StopTimeline(ask_s=0.3, interrupt_s=0.3, terminate_s=0.3)


class Learner:
    def __init__(self):
        self.seen = []

    def note(self, name, seed):
        self.seen.append((name, seed))

    def noted(self):
        return sorted(self.seen)


class Actor:
    def __init__(self, learner, seed):
        self._learner, self._seed = learner, seed

    def run(self):
        self._learner.note(lp.get_context().name, self._seed)
        lp.wait_for_stop()

    def wait(self):
        threading.Event().wait(2.0)

    def deafen(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG, signal.SIGTERM})


def wait_for_file(path):
    until(lambda: os.path.exists(path), WAIT_S)  # noqa: PTH110 - it is a node's


def program_of(count, **group):
    """Actors that tell a learner of themselves."""
    program = lp.Program("elastic")
    learner = program.add_node(lp.CourierNode(Learner), label="learner")
    with program.group("actor", **group):
        actors = [program.add_node(lp.CourierNode(Actor, learner, seed=10 * i)) for i in range(count)]
    return program, learner, actors


def await_state(run, name, *states):
    until(lambda: run.nodes[name].state in states, WAIT_S)


def cause_of(run, name):
    """How the node ended, in words."""
    return run.nodes[name].exit.cause


def gpus_of(run):
    """Who was given which GPUs."""
    return {node.name: dict(node.process.env).get("CUDA_VISIBLE_DEVICES") for node in run.plan.nodes}


def send(run, name, number):
    """Signal a node's process."""
    os.kill(run.nodes[name].pid, number)


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_group_grows_and_shrinks(launch_type, tmp_path):
    program, learner, actors = program_of(2)
    with lp.launch(program, launch_type, run_dir=tmp_path) as run:
        client, first = learner.dereference(), actors[1].dereference()

        # When it is scaled up, Then the new ones have numbers and arguments that go on
        assert run.scale("actor", 4) == ("actor/2", "actor/3")
        until(lambda: len(client.noted()) == 4, WAIT_S)
        assert client.noted() == [(f"actor/{i}", 10 * i) for i in range(4)]
        assert [node.name for node in run.plan.nodes] == ["learner/0", *(f"actor/{i}" for i in range(4))]

        # When it is scaled down, Then the highest numbers go, and whoever calls them hears of it
        first_call = first.futures.wait()
        assert run.scale("actor", 1) == ("actor/3", "actor/2", "actor/1")
        with pytest.raises(errors.NodeRemoved, match="actor/1 was removed"):
            actors[1].dereference().wait()
        with pytest.raises(errors.NodeRemoved, match="actor/1 was removed"):
            first.wait()
        with pytest.raises(errors.NodeRemoved, match="actor/1 was removed"):
            first_call.result(WAIT_S)
        for number in (1, 2, 3):
            await_state(run, f"actor/{number}", lp.NodeState.FINISHED)
            assert cause_of(run, f"actor/{number}") == "was removed (run.scale())"

        # And numbers are not used twice
        assert run.scale("actor", 2) == ("actor/4",)  # with a seed that goes on, though one of two is left
        assert run.scale("actor", 2) == ()
        until(lambda: ("actor/4", 40) in client.noted(), WAIT_S)
    # And its files tell of all of them
    plan = json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))
    assert [node["name"] for node in plan["nodes"]] == ["learner/0", *(f"actor/{i}" for i in range(5))]
    status = json.loads((run.folder / "status.json").read_text(encoding="utf-8"))
    assert (status["state"], len(status["nodes"])) == ("finished", 6)


class Caller:
    def __init__(self, actors):
        self._actors = actors

    def ask(self):
        return self._actors.index()

    def ask_slowly(self):
        return self._actors.index_later()


class Callee:
    def index(self):
        return lp.get_context().index

    def index_later(self):
        index = lp.get_context().index
        if index:
            lp.wait_for_stop(WAIT_S)
            threading.Event().wait(2.0)
        return index


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_who_calls_a_group_calls_those_that_are_there(launch_type, tmp_path):
    # Given a group, and one that was given a handle of it before there was any of its nodes
    program = lp.Program("group")
    caller = program.add_node(lp.CourierNode(Caller, program.handle_to_group("callee")), label="caller")
    for _ in range(2):
        program.add_node(lp.CourierNode(Callee), label="callee")
    group = program.handle_to_group("callee")
    with lp.launch(program, launch_type, run_dir=tmp_path) as run:
        client: Any = caller.dereference()
        here = lp.broadcast(group, timeout_s=WAIT_S)
        assert client.ask() == here.index() == [0, 1]

        # When it grows, Then the new ones are called, too
        run.scale("callee", 3)
        assert here.index() == [0, 1, 2]
        until(lambda: client.ask() == [0, 1, 2], WAIT_S)

        # When it shrinks under a call, Then that has the results of those that stay
        slow = client.futures.ask_slowly()
        run.scale("callee", 1)
        assert slow.result(WAIT_S) == [0]
        assert here.index() == [0]
        assert repr(here) == "<broadcast to callee/0>"
        until(lambda: client.ask() == [0], WAIT_S)
        here.__exit__()


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_nodes_are_added_and_removed_one_by_one(launch_type, tmp_path):
    program, learner, _ = program_of(1)
    with lp.launch(program, launch_type, run_dir=tmp_path) as run:
        added = run.add_node(lp.CourierNode(Actor, learner, seed=7), label="actor")
        other = run.add_node(lp.PyNode(print, "hello"), label="greeter")
        until(lambda: ("actor/1", 7) in learner.dereference().noted(), WAIT_S)
        await_state(run, "greeter/0", lp.NodeState.FINISHED)
        run.remove(added)
        await_state(run, "actor/1", lp.NodeState.FINISHED)

        with pytest.raises(errors.NodeExited):
            run.remove(other)
        with pytest.raises(errors.NotFound, match=r"did you mean 'actor/0'"):
            run.remove("acto/0")


class Controller:
    def __init__(self, group, learner):
        self._group, self._learner = group, learner

    def resize(self):
        """A node lets others come and go; what it saw of that."""
        me = lp.get_context()
        assert self._group.index() == [0, 1]
        came = me.scale("callee", 3)
        assert self._group.index() == [0, 1, 2]
        added = me.add_node(lp.CourierNode(Actor, self._learner, seed=7), label="actor")
        until(lambda: len(self._learner.noted()) == 3, WAIT_S)
        me.remove(added, "callee/1")
        with pytest.raises(errors.NodeRemoved, match=r"was removed from the running program \(controller/0\)"):
            added.dereference().wait()
        with pytest.raises(errors.NotFound, match="did you mean 'callee'"):
            me.scale("calle", 1)
        assert self._group.index() == [0, 2]
        return came, self._learner.noted()


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_node_lets_others_come_and_go(launch_type, tmp_path):
    program, learner, _ = program_of(2)
    group = program.handle_to_group("callee")
    controller = program.add_node(lp.CourierNode(Controller, group, learner), label="controller")
    for _ in range(2):
        program.add_node(lp.CourierNode(Callee), label="callee")
    with lp.launch(program, launch_type, run_dir=tmp_path) as run:
        seen = [("actor/0", 0), ("actor/1", 10), ("actor/2", 7)]
        assert controller.dereference().resize() == (("callee/2",), seen)
        assert run.nodes["callee/1"].removed == "controller/0"


def test_what_cannot_be_scaled_is_refused_and_nothing_changes(tmp_path):
    program, learner, actors = program_of(2)
    program.add_node(lp.PyNode(lp.wait_for_stop), label="odd")
    holder = lp.CourierNode(Actor, actors, seed=1)
    holder.disable_run()
    program.add_node(holder, label="holder")
    program.add_node(lp.MultiThreadingColocation([lp.PyNode(lp.wait_for_stop)]), label="ranks")
    with lp.launch(program, "local_mt", run_dir=tmp_path) as run:
        for label, count, error, words in (
            ("actr", 3, errors.NotFound, "did you mean 'actor'"),
            ("actor", -1, errors.GraphError, "whole number"),
            ("actor", 3, errors.PlanError, "holder/0 was given handles of single nodes .actor/0, actor/1."),
            ("actor", 1, errors.PlanError, "holder/0 .* would go on calling what is removed"),
            ("ranks", 2, errors.PlanError, "ranks/0 consists of 1 nodes"),
        ):
            with pytest.raises(error, match=words):
                run.scale(label, count)
        with pytest.raises(errors.PlanError, match="which is not in program"):
            run.add_node(lp.PyNode(print, lp.Program("x").add_node(lp.CourierNode(Learner), label="l")), label="odd")
        assert len(run.nodes) == 7
        assert not (run.folder / "logs" / "odd" / "1.log").exists()
        until(lambda: len(learner.dereference().noted()) == 2, WAIT_S)
    with pytest.raises(errors.PlanError, match=r"run elastic-.* is stopping|has ended"):
        run.scale("odd", 2)


def test_what_was_taken_just_before_a_stop_was_taken() -> None:
    # Given a run, and somebody who looks whether it took what they asked for, just before it does, and then stops
    with lp.launch(program_of(1)[0], "local_mt") as run:
        elastic, looks = run._elastic, []

        def is_taken() -> bool:
            looks.append(run.stop_reason)
            if len(looks) == 1:
                run._director.tell(StopAsked(reason="enough", origin="somebody"))
                until(lambda: run.stop_reason, WAIT_S)
            return len(looks) > 1

        # When they look again, then it was, and it was not the stop that came before
        elastic._await(is_taken, "its nodes end with it")
        assert looks == [None, "enough"]
        # But what was not by then never will be
        with pytest.raises(errors.PlanError, match=r"is stopping \(enough\): its nodes end with it"):
            elastic._await(lambda: False, "its nodes end with it")


def test_devices_are_those_that_are_left(tmp_path):
    program, *_ = program_of(2, resources=lp.Resources(gpus=1))
    inventory = lp.Inventory(cpus=(0,), gpus=("a", "b", "c"))
    with lp.launch(program, "local_mp", run_dir=tmp_path, inventory=inventory) as run:
        run.scale("actor", 3)
        with pytest.raises(errors.PlanError, match=r"1 GPUs are asked for .* beside 3 that other nodes have"):
            run.scale("actor", 4)
        assert gpus_of(run) == {"learner/0": None, "actor/0": "a", "actor/1": "b", "actor/2": "c"}
        run.remove("actor/0")
        await_state(run, "actor/0", lp.NodeState.FINISHED)
        assert run.scale("actor", 3) == ("actor/3",)
        assert gpus_of(run)["actor/3"] == "a"


def say_and_wait(_):
    print("here")
    lp.wait_for_stop()


def test_what_a_removed_node_alone_needed_is_let_go(tmp_path):
    program, _, _ = program_of(1)
    with lp.launch(program, "local_mp", run_dir=tmp_path) as run:
        payloads = run.folder / "payloads"
        before = set(payloads.iterdir())
        logs = [run.folder / "logs" / "large" / f"{number}.log" for number in range(3)]
        for number, log in enumerate(logs):
            run.add_node(lp.PyNode(say_and_wait, bytes(200_000 + number)), label="large")
            wait_for_file(log)
            run.remove(f"large/{number}")
            await_state(run, f"large/{number}", lp.NodeState.FINISHED)
        assert len(set(payloads.iterdir()) - before) <= 2  # of the last one: its stream, and the script
        assert len([fd for fd in DESCRIPTORS.iterdir() if os.path.realpath(fd) in map(str, logs)]) <= 1
        with pytest.raises(errors.PlanError, match=r"its nodes differ in args\[0\]"):
            run.scale("large", 1)
        assert json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["nodes"] == 5


def test_nodes_are_added_where_an_engines_hosts_have_room(tmp_path):
    program = lp.Program("hosts")
    with program.group("callee", resources=lp.Resources(cpus=1)):
        for _ in range(2):
            program.add_node(lp.CourierNode(Callee))
    with lp.launch(program, LocalHosts(nodes=2), run_dir=tmp_path) as run:
        group = lp.broadcast(program.handle_to_group("callee"), timeout_s=WAIT_S)
        assert group.index() == [0, 1]
        with pytest.raises(errors.PlanError, match=r"callee/2: no host has room; host0: 1 CPUs are asked for"):
            run.scale("callee", 3)
        run.scale("callee", 1)
        await_state(run, "callee/1", lp.NodeState.FINISHED)
        assert run.scale("callee", 2) == ("callee/2",)
        assert group.index() == [0, 2]
        assert [node.site.host for node in run.plan.nodes if node.site] == ["host0", "host1", "host1"]


def test_policies_hold_for_what_was_added(tmp_path):
    program, _, actors = program_of(1, on_failure=lp.Restart(backoff_s=0.0))
    with lp.launch(program, "local_mp", run_dir=tmp_path) as run:
        run.scale("actor", 2)
        await_state(run, "actor/1", lp.NodeState.READY)
        send(run, "actor/1", signal.SIGKILL)
        until(lambda: run.nodes["actor/1"].attempt == 2, WAIT_S)
        # When one is killed, or has to be, while it is removed, it is not started again, and nobody else is harmed
        await_state(run, "actor/1", lp.NodeState.READY)
        actors[0].dereference().deafen()
        send(run, "actor/0", signal.SIGSTOP)
        run.remove("actor/0", "actor/1")
        send(run, "actor/0", signal.SIGKILL)
        await_state(run, "actor/0", lp.NodeState.FAILED)
        await_state(run, "actor/1", lp.NodeState.FINISHED)
        assert cause_of(run, "actor/0") == "was removed (run.remove()), and was killed by SIGKILL"
        assert run.failures == ()
        assert run.nodes["learner/0"].state is lp.NodeState.READY


def test_the_program_ends_with_the_last_node_that_was_added(tmp_path):
    program = lp.Program("one")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="first")
    run = lp.launch(program, "local_mp", run_dir=tmp_path, stop_timeline=QUICK)
    run.add_node(lp.PyNode(time.sleep, 0.3), label="second")
    run.remove("first/0")
    run.wait()
    assert run.ended
    assert run.nodes["second/0"].state is lp.NodeState.FINISHED


def test_a_node_that_is_being_added_when_the_program_ends_is_refused_before_anything_is_given_back(
    tmp_path, monkeypatch
):
    # given a node that is compiled just when the last one of the program ends
    program, go_on = lp.Program("late"), tmp_path / "go on"
    program.add_node(lp.PyNode(wait_for_file, str(go_on)), label="first")
    compile_addition = addition.compile_addition

    def late(*args):
        go_on.touch()
        until(lambda: run.nodes["first/0"].gone, WAIT_S)
        run._director.ended.wait(1.0)  # it must not be
        return compile_addition(*args)

    monkeypatch.setattr(addition, "compile_addition", late)
    run = lp.launch(program, "local_mp")
    # when it has been compiled, then it is refused
    with pytest.raises(errors.PlanError, match="has ended"):
        run.add_node(lp.PyNode(print), label="second")
    run.wait()
    # and nothing is left of it
    assert not (run.folder / "payloads").exists()
    assert [path.name for path in run.folder.iterdir() if path.name.startswith(".")] == []
    assert [node.name for node in run.plan.nodes] == ["first/0"]


def test_who_hears_of_the_end_of_the_last_node_can_add_none_in_its_place():
    # given somebody who replaces nodes that have ended
    program = lp.Program("late")
    told: list[tuple[bool, bool]] = []
    program.add_node(lp.PyNode(print), label="first")
    launched = threading.Event()

    def replace(_):
        assert launched.wait(WAIT_S)
        try:
            run.add_node(lp.PyNode(print), label="second")
        except errors.PlanError as error:
            told.append((run.ended, "has ended" in str(error)))

    run = lp.launch(program, "local_mt", on_node_exit=replace)
    launched.set()
    # when that was the last one, then it is told so at once, and the end does not wait for it
    run.wait()
    assert told == [(False, True)]


def test_nobody_waits_for_a_node_that_was_to_be_added_too_late(monkeypatch):
    # given a program that ends while a node is added to it
    planned, waiting, last = threading.Event(), threading.Event(), threading.Event()
    tell, completion = Director.tell, Run._completion

    def late(self, event):
        if isinstance(event, AddAsked):
            planned.set()
            assert waiting.wait(WAIT_S)
            last.set()
            until(lambda: self.over, WAIT_S)
        tell(self, event)

    def note(self, names, **options):
        if "second/0" in names:
            waiting.set()
        return completion(self, names, **options)

    monkeypatch.setattr(Director, "tell", late)
    monkeypatch.setattr(Run, "_completion", note)
    program = lp.Program("late")
    program.add_node(lp.PyNode(last.wait, WAIT_S), label="first")
    run = lp.launch(program, "local_mt")
    refused: list[str] = []

    def add():
        try:
            run.add_node(lp.PyNode(print), label="second")
        except errors.PlanError as error:
            refused.append(str(error))

    adding = threading.Thread(target=add)
    adding.start()
    # when somebody waits for all of its nodes, that one included, then for no longer than until it is refused
    assert planned.wait(WAIT_S)
    run.wait(timeout_s=WAIT_S)
    adding.join(WAIT_S)
    assert "has ended" in refused[0]
    assert list(run.nodes) == ["first/0"]
