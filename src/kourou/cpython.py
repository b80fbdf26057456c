"""What leans on CPython's insides: private members, C functions, and ways that no documentation promises.

The only module that does. Each hook says what it relies on, and what would happen where that is missing;
tests/test_cpython.py tries each on the interpreter at hand, and names the versions on which it was seen to hold.

Modules are imported where they are touched: a zygote of commands imports this one, and stays without ``threading``.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import threading
    import weakref
    from concurrent.futures import Future
    from types import FrameType, TracebackType


# -- modules -------------------------------------------------------------------------------------------------------


def imported(name: str) -> Any:
    """The module of that name if this process has imported it, all of it; else None.

    Who asks wants a library's classes only where something may be of them, and what was never imported made none. While
    a thread imports a module, ``sys.modules`` has it already, without most of its names. Relies on ``_initializing`` of
    its spec, which importlib itself goes by (3.3). Without it, another thread that looks just then lacks a name.
    """
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


# -- threads -------------------------------------------------------------------------------------------------------


def set_async_exception(thread: int, kind: type[BaseException]) -> bool:
    """Have an exception raised in a thread as soon as it runs Python code.

    Relies on ``PyThreadState_SetAsyncExc``, which takes an unsigned long since 3.7. Without it, threads would have to
    ask ``lp.wait_for_stop`` to be stopped, as those in C code have to.

    Returns:
        Whether there is such a thread.
    """
    import ctypes

    return bool(ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind)))


def clear_async_exceptions() -> None:
    """Take back what was to be raised in the calling thread, and have the interpreter look for no more.

    Until an exception is raised in *some* thread, CPython up to 3.12 remembers for all of them that one is due: each
    check takes the slow way, and on 3.11 a thread with a trace function (a debugger, coverage, hypothesis) checks for
    ever. A thread that ended first, or never returns from C code, would leave it so. What is due in others stays so.
    """
    import threading

    class Cleared(BaseException):
        pass

    try:
        set_async_exception(threading.get_ident(), Cleared)
        for _ in range(_CHECKS):
            pass
    except Cleared:
        return


_CHECKS = 100_000  # far more than it takes until the interpreter looks


frames_of_threads = sys._current_frames
"""Where each thread is, by its ident. A function of ours would be the calling thread's innermost frame, and gone.

Documented. Without it, stacks of this process's threads would lack."""


def variables_of(frame: FrameType) -> Mapping[str, Any]:
    """The local variables of a function that another thread is in, as they were when it was interrupted.

    Documented, but for that: relies on ``f_locals`` being a copy (up to 3.12) or a view of a frame that a thread keeps
    as it is while it waits for the interpreter's lock. Without it, nobody could be told for whom a node waits.
    """
    return dict(frame.f_locals)


def set_thread_start(start: Callable[[threading.Thread], None]) -> None:
    """Replace ``threading.Thread.start``.

    Relies on all of Python starting threads by that method (``threading.Timer``, ``concurrent.futures`` …), and on a
    thread looking its ``run`` up in itself. Else ``lp.stop()`` in a thread would not know its program where two run.
    """
    import threading

    threading.Thread.start = start  # type: ignore[method-assign, assignment]


def start_unlisted_thread(work: Callable[[], None]) -> None:
    """Start a thread that ``threading`` does not know: nobody lists it, waits for it or gives it a node.

    Relies on ``_thread.start_new_thread``, which is documented, and on such threads ending with the process.
    """
    import _thread

    _thread.start_new_thread(work, ())


L = TypeVar("L", bound="threading.Lock | threading.RLock")


def renewed_in_children(lock: L) -> L:
    """Let a lock be free in children of fork, where a thread that had it has stayed behind.

    Relies on ``_at_fork_reinit`` (3.9), by which ``logging`` and ``threading`` do so. Without it, a child would wait
    for ever for what some thread of its parent held in the moment of the fork.
    """
    _renewed().add(lock)
    return lock


@functools.cache
def _renewed() -> weakref.WeakSet[Any]:
    import weakref

    locks: weakref.WeakSet[Any] = weakref.WeakSet()
    os.register_at_fork(after_in_child=lambda: [lock._at_fork_reinit() for lock in list(locks)])
    return locks


# -- the interpreter's end -----------------------------------------------------------------------------------------


def at_threading_shutdown(function: Callable[[], object]) -> None:
    """Have a function called in the main thread once the script has ended, while threads can still be started.

    From 3.12 on ``atexit`` comes too late for that. Relies on ``threading._register_atexit`` (3.9), by which
    ``concurrent.futures`` closes its executors: it is imported first, so that they are closed after ``function``.
    Without it, a script that does not wait for its run would end it.
    """
    import threading

    threading._register_atexit(function)  # type: ignore[attr-defined]


_TAKEN_APART = "torch.library"
"""The module whose finalizers take a table of operators apart that ends with the process."""


def run_exit_functions() -> None:
    """What an interpreter does at its end before it takes itself apart: wait for threads, call ``atexit``'s functions.

    Relies on ``threading._shutdown`` and ``atexit._run_exitfuncs``, by which multiprocessing's children end, and on
    ``weakref.finalize._registry``. Without them, nodes would be taken apart module by module at their end, which is
    slow; and torch's operators one by one, for which a fork copies 27 MiB of what its zygote has imported.
    """
    import atexit
    import threading
    import weakref

    threading._shutdown()  # type: ignore[attr-defined]
    for finalizer, told in list(weakref.finalize._registry.items() if _TAKEN_APART in sys.modules else ()):  # type: ignore[attr-defined]
        if getattr(told.func, "__module__", None) == _TAKEN_APART:
            finalizer.atexit = False
    atexit._run_exitfuncs()


def forget_exit_functions() -> None:
    """Let ``atexit`` call nothing that was registered so far: in a fork, that is its parent's to do.

    Relies on ``atexit._clear``, as multiprocessing does. Without it, a fork would do at its end what its parent will.
    """
    import atexit

    atexit._clear()


SYSTEM_EXIT_CODE: Any = SystemExit.__dict__["code"]
"""The slot behind ``SystemExit.code``, for a subclass that has a property of that name.

Relies on the interpreter asking for the attribute, not for the C field, of an exception that ends the script."""


def is_called_by_interpreter() -> bool:
    """Whether the function that asks was called by no Python code.

    Relies on the interpreter having left all frames when it asks a SystemExit that nobody caught for its code, and on
    ``sys._getframe``. Without it, runs of a script that ends by ``sys.exit(1)`` would be waited for.
    """
    try:
        sys._getframe(2)
    except ValueError:
        return True
    return False


def exit_when_uncaught(kind: type[BaseException]) -> None:
    """Let the interpreter exit with an exception's ``code``, and without a traceback, where nobody catches it.

    In other threads it passes without a word, as SystemExit does. Relies on ``sys.excepthook`` being called for what a
    script did not catch, and on a SystemExit that it raises being taken for the script's own. Without it, who presses
    Ctrl-C would see a traceback, and the exit code would be 1.
    """
    import threading

    before, before_in_threads = sys.excepthook, threading.excepthook
    if getattr(before, "exits_on", None) is kind:
        return

    def tell(of: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, kind):
            raise SystemExit(getattr(error, "code", 1)) from None
        before(of, error, traceback)

    def tell_in_thread(told: threading.ExceptHookArgs) -> None:
        if not isinstance(told.exc_value, kind):
            before_in_threads(told)

    tell.exits_on = kind  # type: ignore[attr-defined]
    sys.excepthook, threading.excepthook = tell, tell_in_thread


# -- other processes -----------------------------------------------------------------------------------------------


def interpreter_options() -> tuple[str, ...]:
    """The options that this interpreter was started with (``-W``, ``-X``, ``-O`` …).

    Relies on ``subprocess._args_from_interpreter_flags``, as multiprocessing does. Without it, they would be lost.
    """
    import subprocess

    return tuple(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]


def change_preparation_data(change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a child of multiprocessing's (spawn or forkserver) is told before anything of the user's.

    Relies on ``multiprocessing.spawn.get_preparation_data`` being looked up in its module for each child, on its dict
    being unpickled ahead of the process object, and on names in it that ``prepare`` does not know being passed over. A
    forkserver asks as well when it starts, and takes the path only. Without it, a child would run the script again.
    """
    from multiprocessing import spawn

    prepare = spawn.get_preparation_data

    def changed(name: str) -> dict[str, Any]:
        data = prepare(name)
        change(data)
        return data

    spawn.get_preparation_data = changed


def overwrite_environment(name: str, value: str) -> None:
    """Write over a variable of the environment that this process was started with; nothing where it does not fit.

    The kernel shows that one to others, whatever was changed since; a fork without exec inherits that view. Relies on
    Linux telling in ``/proc/self/stat`` where it lies, and on ``os.environ`` writing elsewhere. Where there is no /proc
    the kernel's view stays as it was.
    """
    import ctypes

    place = _environment_place(name)
    written = value.encode(errors="surrogateescape")
    if place is not None and len(written) <= place[1]:
        ctypes.memmove(place[0], written.ljust(place[1]), place[1])


@functools.cache
def _environment_place(name: str) -> tuple[int, int] | None:
    """Where the value of a variable lies, and how long it is; the same in forks, which find it known."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return None
    import ctypes

    # Fields 50 and 51 are where the environment starts and ends; the process's name, in brackets, may hold anything.
    start, end = (int(field) for field in stat.read_text(errors="replace").rpartition(")")[2].split()[47:49])
    block = b"\0" + ctypes.string_at(start, end - start)
    at = block.find(f"\0{name}=".encode())
    if at < 0:
        return None
    value_at = at + len(name) + 2
    return start + value_at - 1, block.index(b"\0", value_at) - value_at


# -- the standard library's objects --------------------------------------------------------------------------------


def future_fields(fresh: Future[Any]) -> dict[str, Any]:
    """What a future that was just made has in itself, for an object that becomes one when somebody looks.

    Relies on ``concurrent.futures.Future`` having its state in attributes of the instance, all of them from the start,
    on which its own methods, ``futures.wait`` and asyncio work. Else a reply would have to be a whole future at once.
    """
    return vars(fresh)


def reduce_by_attributes(value: object) -> tuple[Any, ...]:
    """How an object is pickled as its class and its attributes, whatever it says itself.

    Relies on ``copyreg._reduce_ex``, which is protocol 1's way. Without it, sentinels of a script would not travel.
    """
    import copyreg

    reduced: tuple[Any, ...] = copyreg._reduce_ex(value, 1)  # type: ignore[attr-defined]
    return reduced


def stack_level_outside(package: str) -> int:
    """The ``stacklevel`` with which the caller's warning names the line outside of a package that led to it.

    Relies on ``sys._getframe``; from 3.12 on, ``warnings.warn`` takes ``skip_file_prefixes`` for that.
    """
    frame, level = sys._getframe(1), 1
    while f"{frame.f_globals.get('__name__')}.".startswith(f"{package}.") and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    return level


def set_source(file: str, text: str) -> None:
    """Let tracebacks and ``inspect`` show a file's text where the file is not.

    Relies on the form of entries in ``linecache.cache`` (size, no time of change, lines, name), which are kept while
    that time is None. Without it, tracebacks of other hosts would show no lines.
    """
    import linecache

    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
