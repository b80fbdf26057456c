"""Runs as threads of this process, behind the interface that the scheduler has for processes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou import cpython
from kourou.experiments.sweep.run_process import read_payload
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.process.supervisor import ProcessEvents
from kourou.tracebacks import format_failure

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ThreadSupervisor"]

_LAST_LINES = 50
_INTERRUPTED = 130


class ThreadSupervisor:
    """Starts functions as threads. Nobody can kill a thread: a signal raises KeyboardInterrupt in it.

    Args:
        events: told of what happens.
        ignored: what only processes need.
    """

    def __init__(self, events: ProcessEvents, **ignored: Any) -> None:
        del ignored
        self._events = events
        self._threads: dict[str, threading.Thread] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for thread in self._threads.values():
            thread.join()
        cpython.clear_async_exceptions()  # one may have ended before it came to its own

    def prepare(self) -> None:
        """Nothing has to be."""

    def start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any]) -> None:
        """See :meth:`kourou.runtime.process.supervisor.Supervisor.start`."""
        work = (spec.name, attempt, Path(boot["payload_file"]), boot["payload_sha256"])
        thread = threading.Thread(target=self._run, args=work, name=f"kourou-{spec.name}", daemon=True)
        self._threads[spec.name] = thread
        thread.start()

    def signal(self, name: str, number: int) -> None:
        """See :meth:`kourou.runtime.process.supervisor.Supervisor.signal`."""
        del number
        thread = self._threads.get(name)
        if thread is not None and thread.ident is not None and thread.is_alive():
            cpython.set_async_exception(thread.ident, KeyboardInterrupt)

    def _run(self, name: str, attempt: int, payload_file: Path, sha256: str) -> None:
        code, said = 0, ""
        try:
            _, function, arguments = read_payload(payload_file, sha256)
            function(**arguments)
        except KeyboardInterrupt:
            code, said = _INTERRUPTED, "interrupted"
        except BaseException as error:  # noqa: BLE001 - whatever a run raises is its failure
            code, said = 1, format_failure(error)
        lines = said.splitlines()
        for line in lines:
            self._events.on_line(name, line, "stderr")
        with contextlib.suppress(KeyboardInterrupt):
            self._events.on_exited(name, attempt, ProcessExit(code=code, last_lines=tuple(lines[-_LAST_LINES:])))
