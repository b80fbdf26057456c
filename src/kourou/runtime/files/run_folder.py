"""A run's folder: plan.json, run.json, one log a node, events.jsonl; and, while it runs, payloads and the token."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.checkpoint_files import as_file_name
from kourou.limits import with_remedy
from kourou.ownership import write_own
from kourou.runtime.files.append_file import AppendFile
from kourou.runtime.model.status import STATUS_FILE

PLAN_FILE = "plan.json"
PAYLOADS = "payloads"
CHECKPOINTS = "checkpoints"
"""What nodes keep for a run that goes on."""
EVENTS_FILE = "events.jsonl"
BEGINS_AGAIN = "begins again"
"""The event with which a further launcher of a run begins."""
CERTIFICATE_FILE = "certificate.pem"
"""What clients trust, where nodes are on several hosts; no secret."""
ORDER_FILE = "dial.json"
"""What agents, and shells on other hosts, need to call the launcher; readable by its owner only."""
PICKLED_PLAN_FILE = "plan.pickle"
"""Of a run that was submitted: what its launcher brings to life; gone once the run has ended."""
TOKEN_FILE = "token"  # noqa: S105 - a file's name, no secret

_OF_LIVE_RUN = (ORDER_FILE, TOKEN_FILE, STATUS_FILE)
_IN_JSON = "backslashreplace"  # what stands for a byte that is no UTF-8 (in a path, an argument) is an escape of JSON


def runs_dir() -> Path:
    """Where runs keep their folders: KOUROU_RUNS_DIR, else below the user's state directory."""
    import platformdirs  # noqa: PLC0415 - nodes look for no runs

    given = os.environ.get("KOUROU_RUNS_DIR")
    return Path(given) if given else Path(platformdirs.user_state_dir("kourou")) / "runs"


def new_run_id(program: str) -> str:
    """A name for a run that sorts by time and can be typed: ``train-20261120-153012-1a2b3c``."""
    now = datetime.datetime.now(tz=datetime.timezone.utc).astimezone()
    readable = re.sub(r"[^A-Za-z0-9_.]+", "-", program).strip("-.")[:40] or "program"
    return f"{readable}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def node_log(folder: Path, node: str) -> Path:
    """The log of a node in a run's folder."""
    label, index = _as_folders(node)
    return folder / "logs" / label / f"{index}.log"


def node_checkpoints(folder: Path, node: str) -> Path:
    """A node's folder in that of a run's checkpoints."""
    return folder.joinpath(*_as_folders(node))


def _as_folders(node: str) -> tuple[str, str]:
    """A node's label and index as names of files; a label with odd characters is percent-encoded."""
    label, _, index = node.rpartition("/")
    return as_file_name(label, kept=" ,+=@~()[]{}"), index


def _as_text(data: dict[str, Any]) -> str:
    """JSON with a line for each field, and for each element of those that are lists.

    Indenting everything, json writes in Python, and takes ten times as long; a plan has a thousand nodes.
    """
    encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
    fields = []
    for name, value in data.items():
        elements = ",\n    ".join(map(encode, value)) if isinstance(value, (list, tuple)) else ""
        fields.append(f"  {encode(name)}: " + (f"[\n    {elements}\n  ]" if elements else encode(value)))
    return "{\n" + ",\n".join(fields) + "\n}"


class RunFolder:
    """The folder of one run; only its owner may enter it.

    Args:
        run_id: the folder's name.
        parent: where it is made; None: :func:`runs_dir`.
        again: it is there: made when the run was submitted, or of a run that begins again.
        agents_wait: agents of this run read their order already, and once more until it is complete.

    Raises:
        LaunchError: it cannot be made.
    """

    def __init__(
        self,
        run_id: str,
        parent: str | os.PathLike[str] | None = None,
        *,
        again: bool = False,
        agents_wait: bool = False,
    ) -> None:
        self.run_id = run_id
        self.path = (Path(parent) if parent is not None else runs_dir()).absolute() / run_id
        with self.written():
            self.logs.mkdir(parents=True, mode=0o700, exist_ok=again)
            self.path.chmod(0o700)
            for name in _OF_LIVE_RUN if again else ():  # its launcher may have been killed
                if name == ORDER_FILE and agents_wait:
                    continue
                (self.path / name).unlink(missing_ok=True)
            self._events = AppendFile(self.path / EVENTS_FILE, errors=_IN_JSON)
        self._lock = threading.Lock()
        if again:
            self.event(BEGINS_AGAIN)

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """While entered, what the file system refuses becomes an error that says where, and what to do.

        Raises:
            LaunchError: the folder cannot be written; its disk may be full.
        """
        try:
            yield
        except OSError as error:
            remedy = "" if error.errno == errno.EMFILE else "; KOUROU_RUNS_DIR or run_dir= choose another place"
            raise errors.LaunchError(
                f"cannot write the run's folder {self.path}: {with_remedy(error)}{remedy}"
            ) from error

    @property
    def logs(self) -> Path:
        """One file for each node, ``logs/label/index.log``."""
        return self.path / "logs"

    @property
    def payloads(self) -> Path:
        """What nodes unpickle; gone once the run has ended."""
        return self.path / PAYLOADS

    @property
    def token_file(self) -> Path:
        """The run's token, readable by its owner only; gone once the run has ended."""
        return self.path / TOKEN_FILE

    def log_file(self, node: str) -> Path:
        """The log of a node."""
        return node_log(self.path, node)

    def write_token(self, token: str) -> None:
        """Store the token, created with mode 0600.

        Raises:
            LaunchError: it cannot be written.
        """
        with self.written():
            write_own(self.token_file, token.encode("ascii"))

    def reserve(self, name: str, size_bytes: int) -> None:
        """Take room on the disk for a file that :meth:`write_json` will write later, when the disk may be full.

        Raises:
            LaunchError: there is none now.
        """
        with self.written():
            self._draft(name).write_bytes(bytes(size_bytes))

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        """Write a JSON file aside and rename it, so that a reader never sees half of it.

        Raises:
            LaunchError: it cannot be written.
        """
        draft = self._draft(name)
        text = _as_text(data)
        with self.written():
            try:
                with draft.open("r+b" if draft.exists() else "wb") as file:  # in the room that was reserved
                    file.write(text.encode(errors=_IN_JSON))
                    file.truncate()
                draft.replace(self.path / name)
            except OSError:
                draft.unlink(missing_ok=True)
                raise

    def _draft(self, name: str) -> Path:
        return self.path / f".{name}.{os.getpid()}"

    def event(self, kind: str, **data: Any) -> None:
        """Append a line to events.jsonl. A full disk loses the line, not the run."""
        line = json.dumps({"time": time.time(), "event": kind, **data}, ensure_ascii=False, default=str)
        with self._lock:
            self._events.append(line)

    def close(self) -> None:
        """Remove what only a live run needs."""
        with self._lock:
            self._events.close()
        self.token_file.unlink(missing_ok=True)
        import shutil  # noqa: PLC0415 - nodes end no run

        shutil.rmtree(self.payloads, ignore_errors=True)
