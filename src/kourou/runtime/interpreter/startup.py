"""Another process's Python: given this one's path, made fit for the user's code, and ended as an interpreter ends."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from kourou import cpython, errors
from kourou.runtime.interpreter.signal_handlers import SignalHandlers
from kourou.runtime.interpreter.stacks import dump_on_signal
from kourou.standard_streams import flush_printed
from kourou.tracebacks import format_failure

_PATIENCE_S = 10.0  # nothing holds the end of a process up for longer without being named


def prepare(argv: Sequence[str], path: Sequence[str], *, no_terminal: str) -> None:
    """Give this process its ``sys.argv``, its import path (what is missing comes last), and its standard input.

    Whatever wants somebody to type is told ``no_terminal``: that there is none, and what to do.
    """
    sys.argv = list(argv)
    for folder in path:
        if folder not in sys.path:
            sys.path.append(folder)
    faulthandler.enable(2)
    dump_on_signal()
    sys.stdin = sys.__stdin__ = _NoTerminal(no_terminal)  # type: ignore[misc]
    sys.breakpointhook = functools.partial(_break, no_terminal)


class _NoTerminal(io.TextIOWrapper):
    """Standard input without anybody who types: ``input()`` raises an EOFError as ever, but one that says what to do.

    It is printed as well, since ``pdb`` takes the error for the wish to quit.
    """

    def __init__(self, remedy: str) -> None:
        super().__init__(open(0, "rb", closefd=False), encoding="utf-8")  # noqa: SIM115 - it is never closed
        self._remedy = remedy

    @property
    def mode(self) -> str:
        """As ``open`` would have said."""
        return "r"

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # bytes and None in a base of a base
        line = super().readline(size)
        if not line and size:
            print(f"kourou: {self._remedy}", file=sys.stderr)  # noqa: T201 - pdb swallows the error
            raise errors.NoTerminal(self._remedy)
        return line

    def __next__(self) -> str:  # type: ignore[override]  # bytes in a base of a base
        if line := super().readline():
            return line
        raise StopIteration  # whoever reads all of it is not waiting for anybody


def _break(remedy: str, *args: Any, **kwargs: Any) -> Any:
    """What ``breakpoint()`` does: a debugger that PYTHONBREAKPOINT names may need no terminal."""
    if os.environ.get("PYTHONBREAKPOINT", "pdb.set_trace") in {"", "pdb.set_trace"}:
        raise errors.NoTerminal(f"{remedy}, or set PYTHONBREAKPOINT=kourou.wait_for_debugger: then it waits for one")
    return sys.__breakpointhook__(*args, **kwargs)  # noqa: T100 - the user asked for it


def print_failure(error: BaseException) -> str:
    """Show an exception that nobody caught as Python does, by ``sys.excepthook`` if the user set one; its text.

    What the hook or the stream does to it raises nothing here: the failure is still to be reported. Where the program
    has set ``sys.stderr`` to None it goes to the stream that was there at first.
    """
    text = format_failure(error)
    with contextlib.nullcontext() if sys.stderr is not None else contextlib.redirect_stderr(sys.__stderr__):
        try:
            if sys.excepthook is sys.__excepthook__:
                print(text, file=sys.stderr, end="")  # noqa: T201 - as Python itself would
            else:
                sys.excepthook(type(error), error, error.__traceback__)
        except BaseException:  # noqa: BLE001 - the user's hook, which may exit as well
            with contextlib.suppress(Exception):
                print(f"sys.excepthook raised:\n{traceback.format_exc()}\n{text}", file=sys.stderr, end="")  # noqa: T201
    return text


def path_for(python: str) -> tuple[str, list[str]]:
    """What an interpreter's ``sys.path`` has to become to find what this one finds, as a slice and its new content.

    Another interpreter keeps its own library and packages, and gets in front what is the user's.
    """
    paths = [str(Path(path).absolute()) for path in sys.path]  # "" means this folder, wherever it is run
    if python == sys.executable:
        return "sys.path[:]", paths
    own = tuple(str(Path(prefix).absolute()) + os.sep for prefix in (sys.prefix, sys.base_prefix))
    return "sys.path[:0]", [path for path in paths if not (path + os.sep).startswith(own)]


def python_command(statement: str) -> list[str]:
    """The command of a process of this interpreter, on any host, that finds what this one finds. It holds no secret."""
    where, paths = path_for(sys.executable)
    return [sys.executable, "-u", "-c", f"import sys; {where} = {json.dumps(paths)}; {statement}"]


def finish() -> None:
    """End as an interpreter does (threads, atexit, buffers), but without the slow tearing down of modules."""
    try:
        cpython.run_exit_functions()
    except BaseException:  # noqa: BLE001 - SystemExit and StopRequested included: the process is ending anyway
        traceback.print_exc()
    flush_printed()


@contextlib.contextmanager
def leaving(who: str, code: int) -> Iterator[None]:
    """Around :func:`finish`, in the main thread: what holds the end up is named after a while.

    SIGTERM or SIGHUP ends the process at once with ``code``: all that was to be done has been done.
    """

    def leave(_number: int, frame: FrameType | None) -> None:
        _name_holder(who, frame)
        flush_printed()
        os._exit(code)

    handlers = SignalHandlers()
    for number in (signal.SIGTERM, signal.SIGHUP):
        handlers.set(number, leave)
    left = threading.Lock()
    left.acquire()
    main = threading.get_ident()

    def watch() -> None:
        if not left.acquire(timeout=_PATIENCE_S):
            _name_holder(who, cpython.frames_of_threads().get(main))

    with contextlib.suppress(RuntimeError):  # no more threads
        cpython.start_unlisted_thread(watch)  # a Timer's start would wait for it, in each of hundreds that end at once
    yield
    left.release()


def _name_holder(who: str, frame: FrameType | None) -> None:
    main = threading.main_thread()
    threads = [repr(t.name) for t in threading.enumerate() if t is not main and t.is_alive() and not t.daemon]
    held = f"thread{'s' if threads[1:] else ''} {', '.join(threads)} did not end"
    if not threads:
        where = f": {frame.f_code.co_name} in {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
        held = f"its exit handlers did not end{where}"
    print(f"kourou: {who} had finished, but {held}", file=sys.stderr)  # noqa: T201 - for its log
