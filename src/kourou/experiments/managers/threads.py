"""Runs as threads of this process, behind the interface that the scheduler has for processes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kourou import cpython, errors, threads
from kourou.closing import ClosedAtExit
from kourou.experiments.sweep.run_process import read_payload
from kourou.runtime.interpreter.thread_interrupts import Interruptible
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.process.supervisor import ProcessEvents
from kourou.tracebacks import format_failure

_LAST_LINES = 50
_INTERRUPTED = 130


class ThreadSupervisor(ClosedAtExit):
    """Starts functions as threads. Nobody can kill a thread: a signal raises KeyboardInterrupt in it.

    Args:
        events: told of what happens.
        ignored: what only processes need.
    """

    def __init__(self, events: ProcessEvents, **ignored: Any) -> None:
        del ignored
        self._events = events
        self._threads: dict[str, threading.Thread] = {}
        self._work: dict[str, Interruptible] = {}

    def close(self) -> None:
        """Wait for all of them."""
        for thread in self._threads.values():
            thread.join()

    def prepare(self) -> None:
        """Nothing has to be."""

    def start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any]) -> None:
        """See :meth:`kourou.runtime.process.supervisor.Supervisor.start`."""
        work = self._work[spec.name] = Interruptible(KeyboardInterrupt, _interrupt)
        arguments = (spec.name, attempt, work, Path(boot["payload_file"]), boot["payload_sha256"])
        thread = threading.Thread(target=self._run, args=arguments, name=f"kourou-{spec.name}", daemon=True)
        self._threads[spec.name] = thread
        try:
            threads.start(thread)
        except errors.LaunchError as error:
            del self._threads[spec.name]
            self._events.on_exited(spec.name, attempt, ProcessExit.not_started(str(error)))

    def signal(self, name: str, number: int) -> None:
        """See :meth:`kourou.runtime.process.supervisor.Supervisor.signal`."""
        del number
        self._work[name].interrupt()

    def _run(self, name: str, attempt: int, work: Interruptible, payload_file: Path, sha256: str) -> None:
        said = work.run(lambda: _call(payload_file, sha256))
        code = _INTERRUPTED if said is None else int(bool(said))
        lines = ("interrupted" if said is None else said).splitlines()
        for line in lines:
            self._events.on_line(name, line, "stderr")
        self._events.on_exited(name, attempt, ProcessExit(code=code, last_lines=tuple(lines[-_LAST_LINES:])))


def _interrupt(thread: threading.Thread) -> None:
    cpython.set_async_exception(thread.ident or 0, KeyboardInterrupt)


def _call(payload_file: Path, sha256: str) -> str:
    """Run a function; what went wrong.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    try:
        _, function, arguments = read_payload(payload_file, sha256)
        function(**arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a run raises is its failure
        return format_failure(error)
    return ""
