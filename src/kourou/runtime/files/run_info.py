"""run.json: by which other shells find a run, and can tell whether its launcher still lives."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
from pathlib import Path
from typing import Any

from kourou.courier.core.endpoint import host_id
from kourou.runtime.model.process_identity import is_suspended, process_start
from kourou.working_folder import working_folder

INFO_FILE = "run.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a launcher says of itself when its run begins."""

    run_id: str
    program: str
    launch_type: str
    terminal: str
    nodes: int
    """How many nodes the plan has."""
    pid: int
    """The launcher."""
    pid_start: str
    """When the launcher started (see ``process_start``): a pid alone may come to mean another process."""
    host: str
    host_id: str
    coordinator: str
    """``host:port`` of the coordinator."""
    stop_s: float
    """Seconds from a request to stop until the last node is killed."""
    started_at: float
    """Unix time."""
    argv: tuple[str, ...]
    cwd: str
    metrics_dir: str = ""
    """Where the metrics are: the run's folder, or that of a sweep's run which launched it."""
    engine: str = ""
    """Of a run that was submitted: the launch type of its engine, which has the job."""
    job: str = ""
    """The job, as the engine names it. The launcher is unknown (``pid`` 0) until it has begun."""
    path: tuple[str, ...] = ()
    """The launcher's ``sys.path``: where classes of what nodes return are found."""
    command: tuple[str, ...] = ()
    """How the launcher was started, its Python first: what ``kourou run --resume`` does again."""
    incarnation: int = 1
    """Counts the run's launchers: one more each time that it is gone on with, or that its job begins again."""

    @classmethod
    def of_this_process(cls, **facts: Any) -> RunInfo:
        """What this process, as the launcher, writes; ``facts`` are the fields that it cannot find out by itself."""
        pid = facts.pop("pid", os.getpid())
        return cls(
            pid=pid,
            pid_start=process_start(pid) or "",
            host=socket.gethostname(),
            host_id=host_id(),
            argv=tuple(sys.argv),
            cwd=str(working_folder()),
            path=tuple(str(Path(entry).absolute()) for entry in sys.path),
            command=(sys.executable, *sys.orig_argv[1:]),
            **facts,
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunInfo:
        """The inverse of :meth:`to_dict`.

        Raises:
            TypeError, KeyError: it is not one.
        """
        known = {field.name: data[field.name] for field in dataclasses.fields(cls) if field.name in data}
        lists = {name: tuple(data.get(name, ())) for name in ("path", "command")}
        return cls(**{**known, **lists, "argv": tuple(data["argv"])})

    @property
    def here(self) -> bool:
        """Whether the launcher's pid means something to this process: same host, same container."""
        return self.host_id == host_id()

    @property
    def launcher_alive(self) -> bool:
        """Whether the launcher still lives; only where :attr:`here` is true."""
        return process_start(self.pid) == self.pid_start

    @property
    def launcher_suspended(self) -> bool:
        """Whether the launcher lives here and was suspended, by Ctrl-Z or SIGSTOP."""
        return self.here and self.launcher_alive and is_suspended(self.pid)
