"""Handing a run's metrics on to exporters, while it runs or after it."""

from __future__ import annotations

import functools
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kourou import threads
from kourou.runtime.metrics.exporters import EXPORTERS, Exporter
from kourou.runtime.metrics.reading import RowFollower
from kourou.runtime.metrics.rows import CONFIG, IMAGE, numbers_of, warn
from kourou.shown import described

_EVERY_S = 1.0
_LAST_S = 30.0  # that the end of a run waits for one that still sends


class Export:
    """Exporters of one folder. One that fails is told of once, and gets no more; the folder has all."""

    def __init__(self, folder: Path, names: Sequence[str], *, run: str, program: str) -> None:
        self._folder = folder
        self._rows = RowFollower(folder)
        self._counts: dict[str, int] = {}
        self._exporters: dict[str, Exporter] = {}
        self.failed = False
        """Whether one got no more."""
        for name in names:
            try:
                self._exporters[name] = EXPORTERS[name](folder, run, program)
            except Exception as error:  # noqa: BLE001 - whatever another package raises, the run goes on
                self._give_up(name, error)

    def step(self) -> int:
        """Hand on what was added; how many rows."""
        count = 0
        for row in self._rows.read():
            count += 1
            self._tell(self._call_for(row))
        if count:
            self._tell(lambda exporter: exporter.flush())
        return count

    def close(self) -> None:
        """Hand on the rest, and end."""
        self.step()
        self._tell(lambda exporter: exporter.close())
        self._exporters.clear()

    def _tell(self, call: Callable[[Exporter], None]) -> None:
        for name, exporter in list(self._exporters.items()):
            try:
                call(exporter)
            except Exception as error:  # noqa: BLE001 - see above
                self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        self._exporters.pop(name, None)
        self.failed = True
        again = f"kourou export {shlex.quote(str(self._folder))} --log-to {name}"
        warn(f"{name} gets no more metrics: {described(error)}. `{again}` hands all of them on later")

    def _call_for(self, row: Mapping[str, Any]) -> Callable[[Exporter], None]:
        """What exporters are told of a row."""
        node = str(row.get("node", ""))
        time = float(row.get("time", 0.0))
        if CONFIG in row:
            return lambda exporter: exporter.config(row[CONFIG])
        step = row.get("step", self._counts.get(node, 0))
        if IMAGE in row:
            name, file = row[IMAGE]["name"], self._folder / row[IMAGE]["file"]
            return lambda exporter: exporter.image(step, time, node, name, file)
        self._counts[node] = self._counts.get(node, 0) + 1
        numbers = numbers_of(row)
        return lambda exporter: exporter.metrics(step, time, node, numbers) if numbers else None


class ExportThread:
    """An :class:`Export` that follows a run of this process, from a thread of its own. Its owner closes it."""

    def __init__(self, folder: Path, names: Sequence[str], *, run: str, program: str) -> None:
        self._again = f"`kourou export {shlex.quote(str(folder))} --log-to {','.join(names)}`"
        self._make = functools.partial(Export, folder, names, run=run, program=program)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kourou-export", daemon=True)
        threads.start(self._thread)

    def close(self) -> None:
        """Hand on the rest; what takes too long is left."""
        self._closed.set()
        self._thread.join(_LAST_S)
        if self._thread.is_alive():
            warn(f"exporters of metrics did not end within {_LAST_S:g} s; {self._again} hands all of them on later")

    def _work(self) -> None:
        export = self._make()
        while not self._closed.wait(_EVERY_S):
            export.step()
        export.close()
