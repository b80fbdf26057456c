"""Nodes whose work is a coroutine, and work that would never be done."""

from __future__ import annotations

import asyncio
import functools
import time
from pathlib import Path

import kourou as lp
from optional import pytest
from polling import WAIT_S

pytestmark = pytest.mark.usefixtures("no_leaks")

LAUNCH_TYPES = ["local_mt", "local_mp"]
QUICK = lp.StopTimeline(ask_s=0.2, interrupt_s=20.0, terminate_s=5.0)


async def write(path, text):
    await asyncio.sleep(0.01)
    path.write_text(text)


class Writer:
    def __init__(self, path):
        self._path = path

    async def run(self):
        await write(self._path, "ran")

    def ping(self):
        return "pong"


class Called:
    async def __call__(self, path):
        await write(path, "ran")


class Custom(lp.Node):
    def __init__(self, path):
        self._path = path

    async def run(self, context):  # type: ignore[override]  # what is returned is awaited
        await write(self._path, "ran")


WORK = {
    "function": lambda path: lp.PyNode(write, path, "ran"),
    "partial": lambda path: lp.PyNode(functools.partial(write, path), text="ran"),
    "callable": lambda path: lp.PyNode(Called(), path),
    "class": lambda path: lp.PyClassNode(Writer, path),
    "server": lambda path: lp.CourierNode(Writer, path),
    "custom": Custom,
    "colocated": lambda path: lp.MultiThreadingColocation([lp.PyNode(write, path, "ran")]),
}


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_coroutine_runs(launch_type, tmp_path):
    program = lp.Program("async")
    for label, make in WORK.items():
        program.add_node(make(tmp_path / label), label=label)
    lp.launch(program, launch_type).wait(timeout_s=WAIT_S)
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == dict.fromkeys(WORK, "ran")


async def fail():
    await asyncio.sleep(0)
    raise ValueError("no such env")


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_coroutine_that_raises_fails_its_node(launch_type):
    program = lp.Program("async")
    program.add_node(lp.PyNode(fail), label="node")
    run = lp.launch(program, launch_type)
    with pytest.raises(lp.errors.ProgramFailed, match="node/0 raised ValueError: no such env"):
        run.wait(timeout_s=WAIT_S)


async def cancelled_by_itself():
    raise asyncio.CancelledError


def test_a_coroutine_that_was_cancelled_by_others_than_the_stop_has_failed():
    program = lp.Program("async")
    program.add_node(lp.PyNode(cancelled_by_itself), label="node")
    run = lp.launch(program, "local_mp")
    with pytest.raises(lp.errors.ProgramFailed, match="node/0 raised CancelledError"):
        run.wait(timeout_s=WAIT_S)


def touch(path):
    Path(path).touch()


async def wait_for_ever(path, *, polls):
    helper = asyncio.create_task(asyncio.sleep(1000))
    touch(f"{path}.up")
    try:
        while not (polls and lp.stop_event().is_set()):  # noqa: ASYNC110 - a threading.Event wakes no loop
            await asyncio.sleep(0.01 if polls else 1000)
    except asyncio.CancelledError:
        path.write_text("cancelled")
        raise
    else:
        path.write_text("polled")
    finally:
        helper.cancel()
        await asyncio.sleep(0.01)  # there is time for more
        touch(f"{path}.clean")


def stop_when(paths):
    while not all(path.exists() for path in paths):
        if lp.wait_for_stop(0.01):
            return
    lp.stop()


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_stop_cancels_what_does_not_poll(launch_type, tmp_path):
    # Given a node that waits for ever, and one that looks whether it shall stop.
    program = lp.Program("async")
    program.add_node(lp.PyNode(wait_for_ever, tmp_path / "waits", polls=False), label="waits")
    program.add_node(lp.PyNode(wait_for_ever, tmp_path / "polls", polls=True), label="polls")
    program.add_node(lp.PyNode(stop_when, [tmp_path / "waits.up", tmp_path / "polls.up"]), label="stopper")
    run = lp.launch(program, launch_type, stop_timeline=QUICK)
    # When the program stops, then both clean up in their own way, and end as they should.
    run.wait(timeout_s=WAIT_S)
    assert (tmp_path / "waits").read_text() == "cancelled"
    assert (tmp_path / "polls").read_text() == "polled"
    assert (tmp_path / "waits.clean").exists()
    assert {str(node.state) for node in run.nodes.values()} == {"FINISHED"}


async def deaf(path):
    touch(f"{path}.up")
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        path.write_text("cancelled, and goes on")
    await asyncio.sleep(1000)


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_coroutine_that_goes_on_is_interrupted_like_all_others(launch_type, tmp_path):
    program = lp.Program("async")
    program.add_node(lp.PyNode(deaf, tmp_path / "deaf"), label="deaf")
    program.add_node(lp.PyNode(stop_when, [tmp_path / "deaf.up"]), label="stopper")
    run = lp.launch(program, launch_type, stop_timeline=lp.StopTimeline(ask_s=0.1, interrupt_s=0.3, terminate_s=20.0))
    run.wait(timeout_s=WAIT_S)
    assert (tmp_path / "deaf").read_text() == "cancelled, and goes on"
    assert str(run.nodes["deaf/0"].state) == "FINISHED"


def generate():
    yield 1


def call(function):
    return function()


async def generate_async():
    yield 1


class Generates:
    def run(self):
        yield 1


async def make_writer():
    return Writer(Path())


UNRUN = {
    "function": (lambda: lp.PyNode(generate), "generate is a generator function"),
    "async": (lambda: lp.PyNode(generate_async), "generate_async is a generator function"),
    "partial": (lambda: lp.PyNode(functools.partial(generate)), "generate is a generator function"),
    "class": (lambda: lp.PyClassNode(Generates), "Generates.run is a generator function"),
    "server": (lambda: lp.CourierNode(Generates), "Generates.run is a generator function"),
    "constructor": (lambda: lp.CourierNode(make_writer), "make_writer is a coroutine function"),
}


@pytest.mark.parametrize("case", UNRUN)
def test_work_that_calling_would_not_do_is_refused_before_anything_starts(case):
    make, told = UNRUN[case]
    program = lp.Program("unrun")
    program.add_node(make(), label="node")
    with pytest.raises(lp.errors.PlanError, match=f"^node/0: {told}"):
        lp.compile_program(program, "local_mp")


def test_an_object_that_does_not_run_may_have_a_generator_called_run():
    node = lp.CourierNode(Generates)
    node.disable_run()
    program = lp.Program("served")
    program.add_node(node, label="node")
    lp.compile_program(program, "local_mp")


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_a_generator_that_only_the_node_can_find_fails_it(launch_type):
    program = lp.Program("unrun")
    program.add_node(lp.PyNode(call, generate), label="node")
    run = lp.launch(program, launch_type)
    with pytest.raises(lp.errors.ProgramFailed, match="generate is a generator function"):
        run.wait(timeout_s=WAIT_S)


async def touch_later(path):
    await asyncio.sleep(0.01)
    touch(path)


def register(path):
    lp.register_stop_handler(functools.partial(touch_later, path))
    lp.stop()
    while not path.exists():
        time.sleep(0.01)


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_stop_handlers_and_callbacks_may_be_coroutines_too(launch_type, tmp_path):
    ended = []

    async def on_node_exit(record):
        await asyncio.sleep(0.01)
        ended.append(record.node)

    program = lp.Program("handlers")
    program.add_node(lp.PyNode(register, tmp_path / "stopped"), label="node")
    run = lp.launch(program, launch_type, on_node_exit=on_node_exit, stop_timeline=lp.StopTimeline(ask_s=20.0))
    run.wait(timeout_s=WAIT_S)
    assert (tmp_path / "stopped").exists()
    assert ended == ["node/0"]


class Asks:
    """Calls another node from its own coroutine, and hears of the stop there."""

    def __init__(self, server, path):
        self._server = lp.aio.Client(server)
        self._path = path

    async def run(self):
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.001)

        beating = asyncio.ensure_future(beat())
        assert not await lp.aio.wait_for_stop(0)
        assert [token async for token in self._server.generate(3)] == [0, 1, 2]
        assert await self._server.ping() == "pong"
        await self._server.end()
        assert await lp.aio.wait_for_stop()
        assert await lp.aio.wait_for_stop(1)
        beating.cancel()
        self._path.write_text("stopped" if beats > 1 else "its event loop stood still")


class Serves:
    async def generate(self, count):
        for token in range(count):
            yield token

    async def ping(self):
        assert not await lp.aio.wait_for_stop(0.001)
        return "pong"

    async def end(self):
        lp.stop()


@pytest.mark.parametrize("launch_type", LAUNCH_TYPES)
def test_nodes_call_each_other_from_coroutines(launch_type, tmp_path):
    program = lp.Program("async")
    server = program.add_node(lp.CourierNode(Serves), label="server")
    program.add_node(lp.PyClassNode(Asks, server, tmp_path / "said"), label="asks")
    lp.launch(program, launch_type).wait(timeout_s=WAIT_S)
    assert (tmp_path / "said").read_text() == "stopped"
