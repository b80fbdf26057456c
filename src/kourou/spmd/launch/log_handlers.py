"""Where workers' lines go: files for each of them, and the launcher's own loggers for the first.

A handler is any ``logging.Handler``. The records that it gets carry ``hostname``, ``rank`` and ``local_rank`` (None for
a host's agent); lines of standard output are INFO, of standard error ERROR, and log records keep their level.
"""

from __future__ import annotations

import datetime
import logging
import os
import sys
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path

from kourou import errors
from kourou.limits import with_remedy
from kourou.runtime.files.log_writer import LogWriter
from kourou.runtime.files.nonblocking_stream import NonBlockingStream
from kourou.runtime.files.rotation import Rotation
from kourou.runtime.files.run_folder import runs_dir
from kourou.spmd.hosts.places import Host
from kourou.spmd.worker.lines import Line

_log = logging.getLogger("kourou.spmd")
_FORMAT = "%(asctime)s:%(levelname)s: %(message)s"
_DEFAULT_FOLDER = "ranks"  # among the folders of runs


class RedirectHandler(logging.Handler):
    """Hands records to the launcher's logger of the same name: ``kourou.spmd.<host>`` or ``….<local rank>``.

    While nobody has set up logging, which shows nothing below warnings then, what workers print is printed here, with
    the rank in front.
    """

    def __init__(self, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._terminals: dict[str, NonBlockingStream] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        logger = logging.getLogger(record.name)
        is_printed = getattr(record, "rank", None) is not None and not getattr(record, "logger", "")
        if is_printed and not _is_set_up(logger):
            self._print(f"[rank {record.rank}] {record.getMessage()}\n", record.levelno)  # type: ignore[attr-defined]
        elif logger.isEnabledFor(record.levelno):
            logger.handle(record)

    def close(self) -> None:
        """Let what waits be printed."""
        for terminal in self._terminals.values():
            terminal.close()
        self._terminals = {}
        super().close()

    def _print(self, text: str, level: int) -> None:
        name = "stderr" if level >= logging.WARNING else "stdout"
        stream = getattr(sys, name)
        if stream is None:
            return
        if name not in self._terminals:
            self._terminals[name] = NonBlockingStream(stream)
        self._terminals[name].write(text)


def _is_set_up(logger: logging.Logger) -> bool:
    """Whether anybody has said what becomes of a logger's records."""
    one: logging.Logger | None = logger
    while one is not None:
        if one.handlers or one.level != (logging.NOTSET if one.parent else logging.WARNING):
            return True
        one = one.parent
    return False


class LogFolder(logging.Handler):
    """Writes ``<host>.log`` for each agent and ``<host>[<local_rank>].log`` for each worker to a folder.

    They are rotated as nodes' logs are, by KOUROU_LOG_MAX_BYTES and KOUROU_LOG_BACKUP_COUNT. Lines that the disk does
    not take are lost, and that is told once.

    Args:
        folder: made if it is not there.
        hosts: whose files shall be there even if they say nothing.
        level: records below are left out.

    Raises:
        PlanError: one of these variables is no whole number from 1 on.
        OSError: the files cannot be made.
    """

    def __init__(self, folder: Path, hosts: Sequence[Host], level: int) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter(_FORMAT))
        self.folder = folder.absolute()
        self._files = LogWriter(Rotation.from_environment())
        everybody = [(host.name, local_rank) for host in hosts for local_rank in (None, *range(host.workers))]
        self._files.open(*(self.file_of(*one) for one in everybody))

    def file_of(self, hostname: str, local_rank: int | None) -> Path:
        """The file of one worker, or of a host's agent."""
        name = urllib.parse.quote(hostname, safe=" ,+=@~()[]{}:")
        return self.folder / (f"{name}.log" if local_rank is None else f"{name}[{local_rank}].log")

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, at once."""
        path = self.file_of(record.hostname, record.local_rank)  # type: ignore[attr-defined]
        self._files.append(str(path), self.format(record))
        self._files.tell_troubles()

    def close(self) -> None:
        """Close the files."""
        self._files.close()
        super().close()


def default_handlers(hosts: Sequence[Host]) -> list[logging.Handler]:
    """What is used unless the user sets handlers: the first host's agent and first worker go to the launcher's loggers.

    And all to files below KOUROU_LOG_DIR (default: ``ranks`` where programs' runs have their folders; empty: no files)
    in a folder of the run's own, named after the time. KOUROU_LOG_LEVEL (a name or a number, default INFO) holds for
    both. torchrunx's names of these variables are understood as well.

    Raises:
        LaunchError: the files cannot be made.
        PlanError: KOUROU_LOG_MAX_BYTES or KOUROU_LOG_BACKUP_COUNT is no whole number from 1 on.
        ValueError: KOUROU_LOG_LEVEL is no level.
    """
    level = log_level()
    first = RedirectHandler(level)
    first.addFilter(only_from(hosts[0].name, None, 0))
    folder = _setting("LOG_DIR", str(runs_dir() / _DEFAULT_FOLDER))
    if not folder:
        return [first]
    try:
        files = LogFolder(_new_folder(Path(folder)), hosts, level)
    except OSError as error:
        remedy = "KOUROU_LOG_DIR chooses another place, or none if it is empty"
        raise errors.LaunchError(f"cannot make logs of ranks in {folder}: {with_remedy(error)}; {remedy}") from error
    _log.info("what all ranks say is in %s", files.folder)
    return [first, files]


def only_from(hostname: str, *local_ranks: int | None) -> Callable[[logging.LogRecord], bool]:
    """A filter for handlers: lets through what workers of one host say; None among ``local_ranks`` is the agent."""

    def is_from(record: logging.LogRecord) -> bool:
        return getattr(record, "hostname", "") == hostname and getattr(record, "local_rank", -1) in local_ranks

    return is_from


def log_level() -> int:
    """The level that KOUROU_LOG_LEVEL sets.

    Raises:
        ValueError: it is neither a level's name nor a number.
    """
    text = _setting("LOG_LEVEL", "INFO").strip()
    if text.isdigit():
        return int(text)
    level = logging.getLevelName(text.upper())
    if not isinstance(level, int):
        raise ValueError(f"KOUROU_LOG_LEVEL={text!r} is neither a level of logging nor a number")  # noqa: TRY004
    return level


def make_record(line: Line) -> logging.LogRecord:
    """A line as logging's record."""
    name = f"kourou.spmd.{line.hostname}" + ("" if line.local_rank is None else f".{line.local_rank}")
    return logging.makeLogRecord(
        {
            "name": name,
            "levelno": line.level,
            "levelname": logging.getLevelName(line.level),
            "msg": line.text,
            "hostname": line.hostname,
            "rank": line.rank,
            "local_rank": line.local_rank,
            "logger": line.logger,
        }
    )


def _setting(name: str, default: str) -> str:
    return os.environ.get(f"KOUROU_{name}", os.environ.get(f"TORCHRUNX_{name}", default))


def _new_folder(parent: Path) -> Path:
    """A folder of its own for a run; two runs of one second get different ones."""
    parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now().isoformat(timespec="seconds")  # noqa: DTZ005 - local time, as a person reads it
    number = 1
    while True:
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
