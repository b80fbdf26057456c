"""What an agent has to know to call its launcher: a file that only its owner can read."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from kourou.ownership import read_own, replace_own

ENTRY = "kourou.runtime.host_agent.host_service"
"""The module of the service that starts a program's nodes, see :mod:`kourou.runtime.host_agent.pipe_agent`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DialOrder:
    """Whom an agent calls, and how it is let in."""

    addresses: tuple[tuple[str, int], ...] = ()
    """``(host, port)``, in the order in which they are tried; (): the launcher does not listen yet."""
    authority: str = ""
    """The certificate that the launcher's is signed with, in PEM format."""
    token: str = dataclasses.field(default="", repr=False)
    silence_s: float
    """So long a silence means that the other end is dead."""
    entry: str = ENTRY
    """The service's module."""
    run_id: str = ""
    """The run whose nodes the agent will start; "": it is told later, or there are none."""
    idle: tuple[int, ...] = ()
    """Places whose agents start no nodes at first, and so prepare none."""

    def write(self, path: Path) -> None:
        """Store it with mode 0600, in place of an earlier one: readers find that or this one, and whole."""
        replace_own(path, self.to_json().encode())

    def to_json(self) -> str:
        """What :meth:`read` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> DialOrder:
        """The inverse.

        Raises:
            NotOwned: others could have written it.
            OSError: it cannot be read.
        """
        data = json.loads(read_own(path))
        lists = {"addresses": tuple((host, port) for host, port in data["addresses"]), "idle": tuple(data["idle"])}
        return cls(**{**data, **lists})
