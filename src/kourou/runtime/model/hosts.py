"""The hosts that a program may use (``launch_type="ssh"``), and how they are reached."""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from kourou import errors
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.node_environment import COPIED_VARIABLES
from kourou.shown import shown


@dataclasses.dataclass(frozen=True)
class Host:
    """One host. What it has is asked of itself, when somebody asks for CPUs or GPUs and it is not told here.

    Raises:
        GraphError: a field has no meaning.
    """

    name: str
    """As ssh knows it: a name, an alias of ssh_config, ``user@name`` or an address. One that leads to this machine
    (``localhost``) is used without ssh."""
    _: dataclasses.KW_ONLY
    cpus: int | tuple[int, ...] | None = None
    """How many CPUs it has to hand out, or their numbers."""
    gpus: int | tuple[str, ...] | None = None
    """How many GPUs, or what CUDA_VISIBLE_DEVICES calls them."""
    slots: int | None = None
    """So many processes are placed on it at most; None: any number."""
    address: str | None = None
    """Where nodes on other hosts reach its nodes; None: the address that its sshd was reached at."""
    python: str | None = None
    """Its interpreter, of the launcher's version and with kourou installed; None: the launcher's own path."""

    def __post_init__(self) -> None:
        if (
            not isinstance(self.name, str)
            or not self.name
            or self.name.startswith("-")
            or set(self.name) & set(" \n\t")
        ):
            raise errors.GraphError(f"a host's name is one word that ssh knows, got {self.name!r}")
        for field in ("cpus", "gpus", "slots"):
            value = getattr(self, field)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= (field == "slots")
            if value is not None and not whole and not (field != "slots" and isinstance(value, tuple)):
                raise errors.GraphError(f"host {self.name}: {field} is a whole number, got {shown(value)}")

    @property
    def inventory(self) -> Inventory | None:
        """What it has to hand out; None when that is not told."""
        if self.cpus is None and self.gpus is None:
            return None
        cpus = self.cpus if isinstance(self.cpus, tuple) else tuple(range(self.cpus or 0))
        gpus = self.gpus if isinstance(self.gpus, tuple) else tuple(str(number) for number in range(self.gpus or 0))
        return Inventory(cpus=cpus, gpus=gpus)


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The hosts of a program. A list of names does where nothing else has to be said.

    Raises:
        GraphError: there are none, one is named twice, or a field has no meaning.
    """

    hosts: Sequence[str | Host]
    _: dataclasses.KW_ONLY
    ssh_config: str | os.PathLike[str] | None = None
    """For ssh's -F; None: the user's and the system's. Keys, jumps and masters are up to it."""
    connect_timeout_s: float = 30.0
    """For a host to answer, before the program fails to start."""
    lost_after_s: float = 15.0
    """A host that is silent for so long is lost, with all nodes on it. Its own agent ends them a little earlier, so
    that none has two lives when it starts again elsewhere. Shorter cuts are survived. A connection that breaks (a
    killed agent or sshd) is noticed at once."""
    sync: Literal["rsync"] | None = None
    """None: the hosts share the file system that the code is on. "rsync": the working folder is copied to each host
    first, below ``~/.cache/kourou/trees``, without what .gitignore names; nodes run in the copy."""
    copy_env_vars: tuple[str, ...] = COPIED_VARIABLES
    """Patterns of names: these variables of the launcher are set on the other hosts. What a group's resources say
    counts more."""

    def __post_init__(self) -> None:
        given = [self.hosts] if isinstance(self.hosts, (str, Host)) else self.hosts
        try:
            hosts = tuple(Host(host) if isinstance(host, str) else host for host in given)
        except TypeError:
            raise errors.GraphError(f"hosts is a list of names, or of lp.Host(...), got {shown(self.hosts)}") from None
        if not hosts or not all(isinstance(host, Host) for host in hosts):
            raise errors.GraphError(f"hosts is a list of at least one name or lp.Host(...), got {shown(self.hosts)}")
        names = [host.name for host in hosts]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise errors.GraphError(f"hosts names {', '.join(twice)} more than once")
        for field in ("connect_timeout_s", "lost_after_s"):
            seconds = getattr(self, field)
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
                raise errors.GraphError(f"hosts: {field} is a number of seconds above 0, got {shown(seconds)}")
        if self.sync not in {None, "rsync"}:
            raise errors.GraphError(f"hosts: sync is None or 'rsync', got {shown(self.sync)}")
        if isinstance(self.copy_env_vars, str):
            raise errors.GraphError(f"hosts: copy_env_vars is a tuple of patterns, got {shown(self.copy_env_vars)}")
        object.__setattr__(self, "hosts", hosts)
        object.__setattr__(self, "ssh_config", None if self.ssh_config is None else os.fspath(self.ssh_config))

    @classmethod
    def of(cls, hosts: Hosts | Sequence[str | Host] | str | Host) -> Hosts:
        """Whatever ``lp.launch`` takes, as Hosts."""
        return hosts if isinstance(hosts, Hosts) else cls(hosts)  # type: ignore[arg-type]  # one name is a list of one

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> Hosts:
        """Read a file with a host on every line: ``name [cpus=8] [gpus=2] [slots=4] [address=…] [python=…]``.

        Args:
            path: the file; ``#`` begins a comment.
            options: the other fields, such as ``ssh_config``.

        Raises:
            GraphError: it cannot be read, or a line makes no sense; the message names the line.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise errors.GraphError(f"cannot read the file of hosts {os.fspath(path)}: {error}") from error
        hosts = []
        for number, line in enumerate(lines, 1):
            try:
                words = shlex.split(line, comments=True)
                if words:
                    hosts.append(_host_of_fields(words))
            except ValueError as error:
                raise errors.GraphError(f"{os.fspath(path)}, line {number}: {error}") from None
        return cls(hosts, **options)

    @property
    def all(self) -> tuple[Host, ...]:
        """The hosts, in order."""
        return tuple(host for host in self.hosts if isinstance(host, Host))

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(host.name for host in self.all)

    def with_inventories(self, found: Mapping[str, Inventory]) -> Hosts:
        """The same with what these hosts were found to have."""
        known = [
            dataclasses.replace(host, cpus=found[host.name].cpus, gpus=found[host.name].gpus)
            if host.name in found
            else host
            for host in self.all
        ]
        return dataclasses.replace(self, hosts=known)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return dataclasses.asdict(self)


_WORDS = {"cpus": int, "gpus": int, "slots": int, "address": str, "python": str}


def _host_of_fields(words: Sequence[str]) -> Host:
    fields: dict[str, Any] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals or key not in _WORDS:
            raise ValueError(f"{word!r} is none of {', '.join(f'{known}=…' for known in _WORDS)}")
        fields[key] = _WORDS[key](value)
    return Host(words[0], **fields)
