"""Who waits for whom in this process: found by looking at its threads, when somebody asks.

Nothing is recorded while a program runs, so that a wait costs nothing. A function in which a thread may wait is marked
by :func:`waits_in`, one in which a thread begins to work for a node by :func:`works_in`: each with a description, which
reads the function's local variables once a thread is found in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import linecache
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias, TypeVar

from kourou import cpython

PATIENCE_S = 10.0
"""After so many seconds whoever waits is told what for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wait:
    """For whom an activity waits."""

    on: str
    """A node's name, or a server's address."""
    what: str
    """A method of it, or something else in words."""
    for_s: float | None
    """Seconds so far; None: not known."""
    ends: str
    """What would end it, in words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Activity:
    """What one thread does for one node."""

    who: str
    """The node; empty: not known."""
    doing: str
    """The method that it answers; empty: the node's own work."""
    for_s: float | None
    thread: int
    """Its ident."""
    cpu_s: float | None
    """That the thread has used so far; None: not known."""
    where: str
    """The innermost line of the user's code: ``file.py:12 in step: …``; empty where there is none."""
    wait: Wait | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocked:
    """A description of what a function waits for; where several apply, what is not told is taken from the next one."""

    on: str = ""
    what: str = ""
    since: float | None = None
    """``time.monotonic()``."""
    ends: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Working:
    """A description of for whom a function works."""

    who: str
    doing: str = ""
    since: float | None = None
    """``time.monotonic()``."""


F = TypeVar("F", bound=Callable[..., Any])
_Describe: TypeAlias = Callable[[Mapping[str, Any]], Blocked | Working | None]
_marked: dict[CodeType, _Describe] = {}
_OWN = str(Path(__file__).parent) + os.sep
_STANDARD = str(Path(os.__file__).parent) + os.sep


def waits_in(describe: Callable[[Mapping[str, Any]], Blocked | None]) -> Callable[[F], F]:
    """Mark a function in which a thread may wait; the function itself stays as it is.

    Args:
        describe: takes the function's local variables. What it raises is passed over: some may not be there yet.
    """
    return lambda function: _mark(function, describe)


def works_in(describe: Callable[[Mapping[str, Any]], Working | None]) -> Callable[[F], F]:
    """Mark a function in which a thread works for a node; as :func:`waits_in`."""
    return lambda function: _mark(function, describe)


def _mark(function: F, describe: _Describe) -> F:
    _marked[function.__code__] = describe
    return function


def look(default: str = "") -> list[Activity]:
    """What the threads of this process, and the tasks on their event loops, do for nodes; without the thread that asks.

    Args:
        default: whose work it is where no mark tells.
    """
    native = {thread.ident: thread.native_id for thread in threading.enumerate()}
    native[threading.main_thread().ident] = os.getpid()  # which a fork does not tell it
    found: list[Activity] = []
    for ident, frame in cpython.frames_of_threads().items():
        if ident in native and ident != threading.get_ident():
            stack = _stack(frame)
            del frame
            found += _activities(stack, ident, _cpu_s(native[ident]), default)
            found += _of_tasks(stack, ident, default)
            del stack  # a frame that is held holds its variables
    return found


def _of_tasks(stack: list[FrameType], ident: int, default: str) -> Iterator[Activity]:
    """What tasks do that wait on the event loop of a thread, if it runs one: they are in no thread's stack."""
    asyncio: Any = cpython.imported("asyncio")
    loop_runs = asyncio and asyncio.BaseEventLoop.run_forever.__code__
    for frame in stack:
        found = _description(frame)
        if isinstance(found, Working):
            default = found.who
        if frame.f_code is loop_runs:
            with contextlib.suppress(RuntimeError):  # there are more and more of them
                for task in asyncio.all_tasks(cpython.variables_of(frame)["self"]):
                    of_task = _activities(_stack_of_task(task), ident, None, default)
                    yield from (one for one in of_task if one.wait is not None or one.doing)


def _stack_of_task(task: Any) -> list[FrameType]:
    """The outermost first; of one that runs just now, nothing: it is in its thread's."""
    frames: list[FrameType] = []
    inner = task.get_coro()
    while inner is not None and not getattr(inner, "cr_running", False):
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        frames += [frame] if frame is not None else []
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return frames


class _Part:
    """The frames of a thread that work for the same node."""

    def __init__(self, working: Working) -> None:
        self.working = working
        self.blocked: Blocked | None = None
        self.where = ""

    def take(self, frame: FrameType) -> None:
        """A frame further in."""
        if (self.blocked is None or not self.where) and is_users(frame.f_code.co_filename):
            self.where = place_of(frame)

    def wait(self, more: Blocked) -> None:
        """It waits; what was told first counts."""
        first = self.blocked
        if first is None:
            self.blocked = more
            return
        self.blocked = Blocked(
            on=first.on or more.on,
            what=first.what or more.what,
            since=more.since if first.since is None else first.since,
            ends=more.ends or first.ends,
        )


def _activities(stack: list[FrameType], ident: int, cpu_s: float | None, default: str) -> Iterator[Activity]:
    parts = [_Part(Working(who=default))]
    for frame in stack:
        found = _description(frame)
        if isinstance(found, Working):
            parts.append(_Part(found))
        elif found is not None:
            parts[-1].wait(found)
        else:
            parts[-1].take(frame)
    for part, inner in zip(parts, [*parts[1:], None], strict=True):
        if inner is not None and part.blocked is not None:  # it runs what it calls itself
            part.wait(Blocked(since=inner.working.since))
        wait = _as_wait(part.blocked)
        if wait is not None or (part.where and inner is None) or part.working.doing:
            yield Activity(
                who=part.working.who,
                doing=part.working.doing,
                for_s=_seconds_since(part.working.since),
                thread=ident,
                cpu_s=cpu_s,
                where=part.where,
                wait=wait,
            )


def _description(frame: FrameType) -> Blocked | Working | None:
    describe = _marked.get(frame.f_code)
    if describe is not None:
        with contextlib.suppress(Exception):  # the thread may be anywhere in that function
            return describe(cpython.variables_of(frame))
    return None


def _as_wait(blocked: Blocked | None) -> Wait | None:
    if blocked is None or not blocked.on:
        return None
    return Wait(on=blocked.on, what=blocked.what, for_s=_seconds_since(blocked.since), ends=blocked.ends)


def _seconds_since(since: float | None) -> float | None:
    return None if since is None else max(0.0, time.monotonic() - since)


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The outermost first."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def is_users(file: str) -> bool:
    """Whether code of that file is neither kourou's nor Python's nor of another package."""
    return not (file.startswith(("<frozen", _OWN, _STANDARD)) or "site-packages" in file)


def place_of(frame: FrameType) -> str:
    """``file.py:12 in step: self.lock.acquire()``."""
    code = frame.f_code
    line = linecache.getline(code.co_filename, frame.f_lineno).strip()
    text = f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}"
    return f"{text}: {line}" if line else text


def _cpu_s(native: int | None) -> float | None:
    """CPU time of a thread of this process, where the system tells it."""
    try:
        text = Path(f"/proc/self/task/{native}/schedstat").read_text(encoding="ascii")
        return int(text.split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return None
