"""CourierNode."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import kourou as lp
from kourou import courier
from optional import pytest
from polling import WAIT_S, until

LAUNCH_TYPES = ["local_mt", "local_mp"]
QUICK = lp.StopTimeline(ask_s=5.0)

pytestmark = pytest.mark.usefixtures("no_leaks")


class Launching:
    """Launches programs of one kind."""

    def __init__(self, launch_type):
        self.runs: list[lp.Run] = []
        self.clients: list[Any] = []
        self._launch_type = launch_type

    def __call__(self, program, *handles) -> Any:
        """Launch, and return the clients of the handles."""
        self.runs.append(lp.launch(program, self._launch_type, stop_timeline=QUICK))
        made = [handle.dereference() for handle in handles]
        self.clients += made
        return made[0] if len(made) == 1 else made


@pytest.fixture(params=LAUNCH_TYPES)
def launch(request):
    """Launches a program; closes clients and stops it at the end."""
    launcher = Launching(request.param)
    yield launcher
    for client in launcher.clients:
        courier.close(client)
    for run in launcher.runs:
        run.stop()


class Counter:
    attribute = 5

    def __init__(self, start=0):
        self.count = start
        self.model = print  # a callable attribute is no method
        self._lock = threading.Lock()

    @property
    def costly(self):
        raise AssertionError("properties are not evaluated")

    def add(self, amount=1, *, times=1):
        with self._lock:
            self.count += amount * times
            return self.count

    def _private(self):
        return "private"

    def __call__(self, word):
        return f"called {word}"

    @classmethod
    def of_class(cls):
        return cls.__name__

    @staticmethod
    def static(x):
        return x

    def items(self, count):
        yield from range(count)

    def handle_of(self):
        return lp.get_context().name


def _counter(label="counter", **kwargs):
    program = lp.Program("courier")
    return program, program.add_node(lp.CourierNode(Counter, **kwargs), label=label)


def test_public_methods_can_be_called_in_every_way(launch):
    program, handle = _counter(start=10)
    client = launch(program, handle)
    assert client.add() == 11
    assert client.add(2, times=3) == 17
    assert client.futures.add(amount=1).result(WAIT_S) == 18
    assert client("me") == "called me"
    assert client.of_class() == "Counter"
    assert client.static([1]) == [1]
    assert list(client.items(3)) == [0, 1, 2]
    assert client.handle_of() == "counter/0"
    assert {"add", "static", "of_class", "items", "__call__"} <= set(courier.list_methods(client))
    assert not {"_private", "costly", "attribute", "__init__"} & set(courier.list_methods(client))
    with pytest.raises(AttributeError, match="add"):
        client.no_such()


class Worker:
    def __init__(self):
        self.steps = 0

    def run(self):
        while not lp.wait_for_stop(0.01):
            self.steps += 1

    def seen(self):
        return self.steps


def test_an_object_with_run_serves_while_it_runs(launch):
    program = lp.Program("courier")
    handle = program.add_node(lp.CourierNode(Worker), label="worker")
    client = launch(program, handle)
    until(lambda: client.seen() > 2, WAIT_S)
    launch.runs[0].stop()
    assert launch.runs[0].nodes["worker/0"].state is lp.NodeState.FINISHED


def test_a_disabled_run_is_not_run_but_serves(launch):
    program = lp.Program("courier")
    node = lp.CourierNode(Worker)
    node.disable_run()
    handle = program.add_node(node, label="worker")
    client = launch(program, handle)
    assert client.seen() == 0
    assert launch.runs[0].plan.nodes[0].serves_only


def make_worker():
    return Worker()


def test_an_object_that_a_function_made_has_work_of_its_own_if_it_has_run(launch):
    program = lp.Program("courier")
    handle = program.add_node(lp.CourierNode(make_worker), label="worker")
    client = launch(program, handle)
    until(lambda: client.seen() > 2, WAIT_S)
    assert launch.runs[0].plan.nodes[0].serves_only  # nobody could know
    assert not launch.runs[0].nodes["worker/0"].serves_only


class First:
    def __init__(self, second=None):
        self.second = second

    def ping(self, depth):
        return ["first", *(self.second.ping(depth - 1) if depth else [])]


class Second:
    def __init__(self, first):
        self.first = first

    def ping(self, depth):
        return ["second", *(self.first.ping(depth - 1) if depth else [])]


def test_two_nodes_can_know_each_other_by_configure(launch):
    program = lp.Program("mutual")
    first = lp.CourierNode(First)
    to_first = program.add_node(first, label="first")
    to_second = program.add_node(lp.CourierNode(Second, to_first), label="second")
    first.configure(second=to_second)
    client = launch(program, to_first)
    assert client.ping(3) == ["first", "second", "first", "second"]
    assert launch.runs[0].plan.nodes[0].inputs == ("second/0",)


def test_two_nodes_can_know_each_other_by_a_forward_handle(launch):
    program = lp.Program("mutual")
    to_first = program.add_node(lp.CourierNode(First, program.handle_to("second")), label="first")
    program.add_node(lp.CourierNode(Second, to_first), label="second")
    assert launch(program, to_first).ping(3) == ["first", "second", "first", "second"]


def test_the_faq_s_way_over_private_attributes_works_too(launch):
    program = lp.Program("mutual")
    first = lp.CourierNode(First)
    to_first = program.add_node(first, label="first")
    first._kwargs["second"] = program.add_node(lp.CourierNode(Second, to_first), label="second")
    assert launch(program, to_first).ping(1) == ["first", "second"]


class Meeting:
    """A handler that waits until as many run as were asked for."""

    def __init__(self, parties):
        self.barrier = threading.Barrier(parties)
        self.most = 0
        self.now = 0
        self.lock = threading.Lock()

    def meet(self):
        return self.barrier.wait(WAIT_S) >= 0

    def count(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)  # the work: not a wait for anything
        with self.lock:
            self.now -= 1
        return self.most


def test_handlers_run_side_by_side_up_to_the_pool_s_size(launch):
    program = lp.Program("pool")
    large = lp.CourierNode(Meeting, 4, courier_kwargs={"thread_pool_size": 4})
    small = lp.CourierNode(Meeting, 1, courier_kwargs={"thread_pool_size": 2})
    to_large = program.add_node(large, label="large")
    to_small = program.add_node(small, label="small")
    many, few = launch(program, to_large, to_small)
    assert [future.result(WAIT_S) for future in [many.futures.meet() for _ in range(4)]] == [True] * 4
    assert max(future.result(WAIT_S) for future in [few.futures.count() for _ in range(12)]) == 2


class Slow:
    def wait(self, seconds):
        return threading.Event().wait(seconds)


def test_client_arguments_come_from_the_node_or_the_handle(launch):
    program = lp.Program("kwargs")
    node = lp.CourierNode(Slow, courier_client_kwargs={"timeout_s": 0.2})
    first = program.add_node(node, label="slow")
    second = node.create_handle()
    second.set_client_kwargs(timeout_s=0.1, lane="grpc")
    quick, quicker = launch(program, first, second)
    for client in (quick, quicker):
        with pytest.raises(lp.errors.DeadlineExceeded):
            client.wait(1.0)
    assert courier.with_options(quick, timeout_s=WAIT_S).wait(0.3) is False


def build():
    print("a function may construct, too")
    return Counter(3)


class SelfServing:
    def set_courier_server(self, server):
        self.server = server
        server.Bind("extra", lambda: "bound by itself")

    def run(self):
        self.server.Start()
        lp.wait_for_stop()


def test_a_function_can_be_the_constructor_and_an_object_can_start_its_server(launch):
    program = lp.Program("constructors")
    by_function = program.add_node(lp.CourierNode(build), label="function")
    by_itself = program.add_node(lp.CourierNode(SelfServing), label="itself")
    counter, serving = launch(program, by_function, by_itself)
    assert counter.add() == 4
    assert serving.extra() == "bound by itself"


class OddResult:
    def unpicklable(self):
        return threading.Lock()

    def ping(self):
        return "pong"


def test_a_result_that_cannot_be_pickled_is_an_error_of_the_call_only():
    program = lp.Program("odd")
    handle = program.add_node(lp.CourierNode(OddResult), label="odd")
    with lp.launch(program, "local_mp", stop_timeline=QUICK):
        client = handle.dereference()
        with pytest.raises(lp.errors.SerializationError, match="lock"):
            client.unpicklable()
        assert client.ping() == "pong"
        courier.close(client)


def poll_in_place_of_a_class(path):
    """Launchpad's example ``program_wait``."""
    path.with_suffix(".up").touch()
    while not lp.wait_for_stop(0.01):
        pass
    time.sleep(0.3)  # longer than it takes to be interrupted at once
    path.write_text("clean")


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
@pytest.mark.parametrize("partial", [False, True])
def test_a_function_in_place_of_a_class_has_the_time_that_a_stop_gives(launch_type, partial, tmp_path):
    program = lp.Program("clean")
    path = tmp_path / "file"
    function = functools.partial(poll_in_place_of_a_class, path)
    node = lp.CourierNode(function) if partial else lp.CourierNode(poll_in_place_of_a_class, path)
    program.add_node(node, label="node")
    run = lp.launch(program, launch_type)
    until(path.with_suffix(".up").exists, 20.0)
    run.stop()
    run.wait()
    assert path.read_text() == "clean"


class NeverDone:
    def __init__(self, path):
        path.touch()
        threading.Event().wait()


@pytest.mark.parametrize("remove", [False, True])
def test_what_is_still_constructed_when_it_is_to_end_is_not_waited_for(remove, tmp_path):
    # Given a node whose constructor waits for ever, in a program whose nodes have an hour to end
    program = lp.Program("endless")
    program.add_node(lp.CourierNode(NeverDone, tmp_path / "up"), label="node")
    if remove:
        program.add_node(lp.PyNode(lp.wait_for_stop), label="other")
    run = lp.launch(program, "local_mp", stop_timeline=lp.StopTimeline(ask_s=3600.0))
    until((tmp_path / "up").exists, 20.0)
    # When it is removed, or the program stops, then it is interrupted at once
    if remove:
        run.remove("node/0")
        run.wait(["node"], timeout_s=WAIT_S)
    run.stop()
    assert run.nodes["node/0"].state is lp.NodeState.FINISHED


def test_dir_of_a_client_lists_the_methods_of_the_node(launch):
    program = lp.Program("dir")
    handle = program.add_node(lp.CourierNode(Counter), label="counter")
    cached = program.add_node(lp.CacherNode(handle, 10, 100), label="cached")
    for client in launch(program, handle, cached):
        # Before there is a connection, as the class tells; then, as the server does.
        offered = dir(client)
        assert "add" in offered
        assert "costly" not in offered
        client.add(1)
        assert set(dir(client)) == {*offered, "model"}  # what its constructor added
