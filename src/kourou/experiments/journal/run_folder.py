"""What a run's folder tells of it: run.json, exit.json, stdout.log and stderr.log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kourou.ownership import make_own_folder, replace_own
from kourou.runtime.files.log_writer import LogWriter

EXIT_FILE = "exit.json"
STDOUT_FILE = "stdout.log"
STDERR_FILE = "stderr.log"


class RunLogs:
    """The two logs of one attempt; a further attempt appends. Every line is in the file when it was written.

    Raises:
        OSError: one cannot be opened; neither is open then.
    """

    def __init__(self, folder: Path, files: LogWriter) -> None:
        self._paths = {"stdout": folder / STDOUT_FILE, "stderr": folder / STDERR_FILE}
        self._files = files
        files.open(*self._paths.values())

    def write(self, line: str, stream: str) -> None:
        """Append a line."""
        self._files.append(str(self._paths[stream]), line)
        self._files.tell_troubles()

    def close(self) -> None:
        """Close both."""
        self._files.close_some(*self._paths.values())


def own_folder(folder: Path) -> None:
    """Make a folder that nobody else can write to, whatever the umask: what is in it may be unpickled. See ownership.

    Raises:
        NotOwned: it is another user's.
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o755)  # others may look into it, as far as the umask lets them
    except FileExistsError:
        make_own_folder(folder)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that others may read and nobody else can write to; a full disk leaves the earlier one."""
    replace_own(path, content, mode=0o644)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object to a file, whole or not at all; a line for each field, which is quicker than ``indent``."""
    lines = [f"  {json.dumps(name)}: {json.dumps(value, default=str)}" for name, value in data.items()]
    write_whole(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """What a JSON file holds; None: there is none, or it holds something else."""
    try:
        return json_object(path.read_bytes())
    except OSError:
        return None


def json_object(text: bytes) -> dict[str, Any] | None:
    """The JSON object that a text is; None: it is none."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
