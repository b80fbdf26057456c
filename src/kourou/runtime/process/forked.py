"""What a process that was forked from a zygote becomes: a node, or a command."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import os
import signal
import sys
import time
from typing import Any, NoReturn

from kourou.runtime.model.records import NOT_STARTED
from kourou.runtime.node_environment import COOKIE
from kourou.runtime.process import prctl, process_table
from kourou.runtime.process.preload import Setting, reseed, with_settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Child:
    """What a forked child has to become."""

    boot: dict[str, Any]
    fds: tuple[int, ...]
    """Standard output, standard error unless both are one, and what else the process inherits."""


def become(child: Child, settings: dict[str, Setting], environment: dict[str, str]) -> NoReturn:
    """Turn this forked process into the node or the command of its boot message; never returns.

    ``settings`` are variables that imports have set, and ``environment`` is what it has of the zygote's.
    """
    boot = child.boot
    code = NOT_STARTED
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        pipes = child.fds[: boot["pipes"]]
        os.dup2(pipes[0], 1)
        os.dup2(pipes[-1], 2)
        for fd in {null, *pipes} - {0, 1, 2}:
            os.close(fd)
        os.chdir(boot["cwd"])
        if boot["cpus"] is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, boot["cpus"])
        if boot["entry"] is None:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; commands do not expect that
                signal.signal(number, signal.SIG_DFL)
            os.execve(_program(boot["argv"][0], boot["env"]), boot["argv"], boot["env"])  # noqa: S606 - its purpose
        prctl.set_name(boot["name"])
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        zone = os.environ.get("TZ")
        env = with_settings(boot["env"], settings)
        for name in environment.keys() - env.keys():
            del os.environ[name]
        for name, value in env.items() - environment.items():  # few: each page that is touched is copied
            os.environ[name] = value
        if boot["env"].get("TZ") != zone:
            time.tzset()  # C's library, and Python's time, have read it already
        process_table.show_cookie(boot["env"][COOKIE])
        boot["fds"] = child.fds[boot["pipes"] :]
        reseed()
        code = importlib.import_module(boot["entry"]).run(boot)
    except OSError as error:
        os.write(2, f"kourou: cannot start {boot['name']}: {error}\n".encode(errors="replace"))
    except BaseException as error:  # noqa: BLE001 - nothing may escape into the zygote's own frames
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _program(name: str, env: dict[str, str]) -> str:
    """Where a command is, by the PATH that it will have.

    ``os.execvpe`` would build the whole environment anew for each folder that it tries.

    Raises:
        FileNotFoundError: it is in none of them.
    """
    if os.sep in name:
        return name
    found = (os.path.join(folder, name) for folder in env.get("PATH", os.defpath).split(os.pathsep))  # noqa: PTH118
    program = next((path for path in found if os.access(path, os.X_OK) and not os.path.isdir(path)), None)  # noqa: PTH112
    if program is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return program
