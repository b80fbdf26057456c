"""What has happened in a run, as its folder tells it: all of it at first, then what is new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kourou.runtime.files.growing_file import GrowingFile
from kourou.runtime.files.run_folder import BEGINS_AGAIN, EVENTS_FILE


class EventFollower:
    """The events of a run, each once, as they come; also before there are any.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._file = GrowingFile(folder / EVENTS_FILE)

    def read(self) -> list[dict[str, Any]]:
        """What has happened since the last reading, one after the other.

        Where a launcher has begun again meanwhile, the first one is :data:`BEGINS_AGAIN`: what was before is past.
        """
        events: list[dict[str, Any]] = []
        while lines := self._file.read_lines():
            for line in lines.splitlines():
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # a launcher died in the middle of it
                if event["event"] == BEGINS_AGAIN:
                    events.clear()
                events.append(event)
        return events
