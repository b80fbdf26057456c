"""Runs as threads of this process, behind the interface that the scheduler has for processes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kourou import cpython
from kourou.closing import ClosedAtExit
from kourou.experiments.sweep.run_process import read_payload
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
        self._interruptible: set[str] = set()
        self._asked: set[str] = set()  # those that were to be interrupted
        self._lock = threading.Lock()

    def close(self) -> None:
        """Wait for all of them."""
        for thread in self._threads.values():
            thread.join()

    def prepare(self) -> None:
        """Nothing has to be."""

    def start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any]) -> None:
        """See :meth:`kourou.runtime.process.supervisor.Supervisor.start`."""
        work = (spec.name, attempt, Path(boot["payload_file"]), boot["payload_sha256"])
        thread = threading.Thread(target=self._run, args=work, name=f"kourou-{spec.name}", daemon=True)
        with self._lock:
            self._threads[spec.name] = thread
            self._asked.discard(spec.name)
        thread.start()

    def signal(self, name: str, number: int) -> None:
        """See :meth:`kourou.runtime.process.supervisor.Supervisor.signal`."""
        del number
        with self._lock:
            self._asked.add(name)
            ident = self._threads[name].ident if name in self._interruptible else None
            if ident is not None:
                cpython.set_async_exception(ident, KeyboardInterrupt)

    def _run(self, name: str, attempt: int, payload_file: Path, sha256: str) -> None:
        code, said = _INTERRUPTED, "interrupted"
        try:  # an interrupt may come just after the run's code as well, and one more while that is dealt with
            try:
                if self._become_interruptible(name):
                    code, said = _call(payload_file, sha256)
                self._leave_interruptible(name)
            except KeyboardInterrupt:
                self._leave_interruptible(name)
        except KeyboardInterrupt:
            self._leave_interruptible(name)
        lines = said.splitlines()
        for line in lines:
            self._events.on_line(name, line, "stderr")
        self._events.on_exited(name, attempt, ProcessExit(code=code, last_lines=tuple(lines[-_LAST_LINES:])))

    def _become_interruptible(self, name: str) -> bool:
        """False if somebody wanted to interrupt the calling thread already."""
        with self._lock:
            self._interruptible.add(name)
            return name not in self._asked

    def _leave_interruptible(self, name: str) -> None:
        """From now on nothing interrupts the calling thread."""
        with self._lock:
            self._interruptible.discard(name)
        cpython.clear_async_exceptions()


def _call(payload_file: Path, sha256: str) -> tuple[int, str]:
    """Run a function: an exit code, and what went wrong.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    try:
        _, function, arguments = read_payload(payload_file, sha256)
        function(**arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a run raises is its failure
        return 1, format_failure(error)
    return 0, ""
