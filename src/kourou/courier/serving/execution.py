"""Runs the handlers of calls, and answers with what they return: a value, or what goes on for longer."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any

from kourou.courier.serving.call import RunningCall
from kourou.courier.serving.call_info import call_scope
from kourou.courier.serving.methods import is_hidden
from kourou.courier.serving.stream_sender import AsyncGeneratorSender, GeneratorSender
from kourou.courier.serving.workers import WorkerPool
from kourou.courier.wire import codec
from kourou.courier.wire.frames import Frame, Kind, payload_size
from kourou.errors import CallCancelled, DeadlineExceeded, SerializationError, ServerOverloaded, StopRequested
from kourou.waits import Working, works_in


def enqueue(call: RunningCall) -> None:
    """Run a call in the pool, as soon as a thread is free. One of a coroutine function needs none."""
    if call.method.is_coroutine_function:
        call.spawn(_begin_on_loop(call))
        return
    handlers = call.caller.handlers
    if not handlers.pool.submit(functools.partial(_begin, call)):
        call.fail(ServerOverloaded(f"{call.name}: {handlers.name} {handlers.pool.refusal}"))


def run_hidden(pool: WorkerPool) -> None:
    """Run the calls of kourou's own methods that wait for a thread of the pool, in this one."""
    for task in pool.withdraw(_is_hidden):
        task()


def _is_hidden(task: object) -> bool:
    return isinstance(task, functools.partial) and task.func is _begin and is_hidden(task.args[0].name)


def _begin(call: RunningCall) -> None:
    """In the pool: run, unless the client has to take other answers first."""
    if not call.is_open:
        return  # it was cancelled while it waited for a thread
    if call.caller.is_congested():
        call.caller.defer(functools.partial(enqueue, call))
    else:
        run(call)


def _described(here: Mapping[str, Any]) -> Working | None:
    """Whose call a thread answers, for those who ask what it does."""
    call: RunningCall = here["call"]
    if not call.since:
        return None
    since = time.monotonic() - (time.perf_counter() - call.since)
    return Working(who=call.caller.handlers.name, doing=call.name, since=since)


@works_in(_described)
def run(call: RunningCall, *, borrowed: bool = False) -> None:
    """Call the handler and answer.

    Args:
        call: what was asked.
        borrowed: this is the thread of the caller. What means to end that thread (Ctrl-C, stop) is raised in it.
    """
    arguments = _arguments(call)
    if arguments is None:
        return
    args, kwargs, received = arguments
    del arguments
    context = call.caller.handlers.context
    scope = call_scope.set(call)
    call.since = start = time.perf_counter()
    try:
        if context is None:
            result = call.method.function(*args, **kwargs)
        else:
            with context():
                result = call.method.function(*args, **kwargs)
    except BaseException as error:
        call.fail(error, by_handler=True, seconds=time.perf_counter() - start, received=received)
        if borrowed and isinstance(error, KeyboardInterrupt | StopRequested):
            raise
        return
    finally:
        call_scope.reset(scope)
    seconds = time.perf_counter() - start
    if result is None or not _goes_on(call, result, start):
        call.answer(result, seconds, received)


def _arguments(call: RunningCall) -> tuple[tuple[Any, ...], dict[str, Any], int] | None:
    """What the handler is given, and how many bytes that was; None if the call has failed instead."""
    if call.deadline is not None and call.is_set():
        call.fail(DeadlineExceeded(f"{call.name}: the deadline passed before it began"))
        return None
    body, buffers = call.body, call.buffers
    call.body, call.buffers = b"", ()  # what the handler lets go of shall be free at once
    received = len(body) if not buffers and type(body) is bytes else payload_size(body, buffers)
    try:
        args, kwargs = codec.decode_call(body, buffers)
    except SerializationError as error:
        call.fail(error, received=received)
        return None
    return args, kwargs, received


def _goes_on(call: RunningCall, result: object, start: float) -> bool:
    """Whether the handler has only begun: it returned a coroutine, a generator or a future."""
    if isinstance(result, Future):
        result.add_done_callback(functools.partial(_answer_later, call, start))
    elif inspect.iscoroutine(result):
        call.spawn(_await(call, result, start, 0), result.close)
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        stream = GeneratorSender(call, result) if inspect.isgenerator(result) else AsyncGeneratorSender(call, result)
        call.stream = stream
        call.caller.send(Frame(Kind.STREAM, call.call_id))
        stream.start()
        if not call.is_open:  # before there was anything to cancel
            stream.cancel()
    else:
        return False
    return True


@works_in(_described)
async def _begin_on_loop(call: RunningCall) -> None:
    """On the event loop: run a coroutine function, unless the client has to take other answers first."""
    if call.caller.is_congested():
        call.caller.defer(functools.partial(enqueue, call))
        return
    arguments = _arguments(call)
    if arguments is None:
        return
    args, kwargs, received = arguments
    del arguments
    call.since = start = time.perf_counter()
    try:
        coroutine = call.method.function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - the arguments are not those of its signature, most likely
        call.fail(error, by_handler=True, received=received)
        return
    del args, kwargs
    await _await(call, coroutine, start, received)


@works_in(_described)
async def _await(call: RunningCall, coroutine: Coroutine[Any, Any, Any], start: float, received: int) -> None:
    """Answer with what a coroutine returns; no thread waits for it."""
    import asyncio  # noqa: PLC0415 - the event loop is one of it

    try:
        result = await coroutine
    except asyncio.CancelledError:
        seconds = time.perf_counter() - start
        call.fail(CallCancelled(f"{call.name}: cancelled by its server"), seconds=seconds, received=received)
    except BaseException as error:  # noqa: BLE001 - SystemExit, too, which would end the loop
        call.fail(error, by_handler=True, seconds=time.perf_counter() - start, received=received)
    else:
        call.answer(result, time.perf_counter() - start, received)


def _answer_later(call: RunningCall, start: float, future: Future[Any]) -> None:
    """The future that a handler returned is done. No thread has waited for it."""
    seconds = time.perf_counter() - start
    if future.cancelled():
        call.fail(CallCancelled(f"{call.name}: cancelled by its server"), seconds=seconds)
        return
    error = future.exception()
    if error is not None:
        call.fail(error, by_handler=True, seconds=seconds)
    else:
        call.answer(future.result(), seconds, 0)
