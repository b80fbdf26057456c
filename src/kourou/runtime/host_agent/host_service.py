"""What an agent does for a program: the nodes of its host, under a Supervisor like the launcher's own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from kourou.ownership import write_own
from kourou.runtime.files.scratch import ScratchFolder
from kourou.runtime.host_agent.first_messages import HostInfo, HostSetup
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.host_agent.pipe_agent import Service
from kourou.runtime.host_agent.session import Sender
from kourou.runtime.host_agent.tunnel import Tunnel
from kourou.runtime.metrics.shipping import RowSender
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ProcessExit
from kourou.runtime.process.supervisor import ProcessEvents, Supervisor
from kourou.working_folder import working_folder


def serve(wire: AgentWire) -> HostAgent:
    """The entry of :mod:`kourou.runtime.host_agent.pipe_agent`."""
    return HostAgent(wire)


class AgentWire(Sender, Protocol):
    """What leads to the launcher."""

    ends: tuple[str, str]
    """The addresses of this host and of the launcher's, where it crosses hosts."""
    run_id: str
    """The run whose nodes will be started here; "": that is told later."""


class HostAgent(ProcessEvents, Service):
    """A :class:`kourou.runtime.host_agent.pipe_agent.Service` that tells the launcher what its Supervisor tells."""

    def __init__(self, wire: AgentWire) -> None:
        self._wire = wire
        self._inventory = Inventory(cpus=())
        self._here = str(working_folder())
        self._scratch = ScratchFolder()
        self._folder = self._scratch.path
        self._payloads = self._folder / "payloads"
        self._payloads.mkdir()
        self._host_setup: HostSetup | None = None
        self._boot: dict[str, Any] = {}
        self._supervisor: Supervisor | None = None
        self._loop: LoopThread | None = None
        self._tunnel: Tunnel | None = None
        self._metrics: RowSender | None = None
        if wire.run_id:  # what nodes need is imported while it is waited for the launcher
            self._prepare(wire.run_id)

    def handle(self, kind: str, *arguments: Any) -> None:
        """A message of :class:`kourou.runtime.launchers.hosts.host.RemoteHost`."""
        getattr(self, f"_do_{kind}")(*arguments)

    def pause_output(self, paused: bool) -> None:  # noqa: FBT001 - a callback of Wire's
        """Nodes that print wait until the launcher has taken what they printed before; nothing else does."""
        if self._supervisor is not None:
            self._supervisor.pause_output(paused)
        if self._tunnel is not None:
            self._tunnel.pause(paused)
        if self._metrics is not None:
            self._metrics.pause(paused)

    def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close()
        if self._tunnel is not None:
            self._tunnel.close()
        if self._metrics is not None:
            self._metrics.close()
        if self._loop is not None:
            self._loop.close()
        self._scratch.remove()

    # -- what the launcher says ---------------------------------------------------------------------------------

    def _do_hello(self) -> None:
        own, launchers = self._wire.ends
        self._inventory = Inventory.of_this_process()
        self._wire.send(
            "hello", HostInfo(inventory=self._inventory, address=own or None, launcher_address=launchers or None)
        )

    def _do_set_up(self, setup: HostSetup) -> None:
        self._host_setup = setup
        os.environ.update(setup.variables)
        self._prepare(setup.run_id)
        self._metrics = RowSender(self._folder, self._wire.send)
        entrance = self._folder / "coordinator"
        self._loop = LoopThread("kourou-tunnel")
        self._tunnel = Tunnel(self._loop, lambda *piece: self._wire.send_first("tunnel", *piece), entrance=entrance)
        self._boot = {
            **setup.boot,
            "coordinator": f"unix:{entrance}",
            "token_file": self._secret("token", setup.token.encode("ascii")),
            "payloads": str(self._payloads),
            "metrics_dir": str(self._folder),
            "socket_dir": str(self._folder),
            "path": [str(Path(entry).absolute()) for entry in sys.path],
            "network": {
                "host": setup.address,
                "authority": setup.authority.decode("ascii"),
                "certificate": setup.identity.certificate.decode("ascii"),
                "key": setup.identity.key.decode("ascii"),
            },
        }

    def _do_blob(self, name: str, piece: bytes) -> None:
        with (self._payloads / name).open("ab") as file:
            file.write(piece)

    def _do_start(self, spec: ProcessSpec, attempt: int, boot: Mapping[str, Any] | None) -> None:
        assert self._supervisor is not None  # noqa: S101 - the launcher begins with "set_up"
        assert self._host_setup is not None  # noqa: S101 - set together with the supervisor
        interpreter = sys.executable if spec.interpreter == self._host_setup.interpreter else spec.interpreter
        cwd = self._mapped(spec.cwd)
        if boot is None:  # the working folder last: a module there is found, but never in place of another one
            boot = {**self._boot, "path": [*self._boot["path"], cwd]}
        if self._host_setup.counted:
            spec = _named(spec, self._inventory)
        self._supervisor.start(dataclasses.replace(spec, interpreter=interpreter, cwd=cwd), attempt, boot)

    def _do_signal(self, name: str, number: int) -> None:
        if self._supervisor is not None:
            self._supervisor.signal(name, number)

    def _do_tunnel(self, operation: str, number: int, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.receive(operation, number, data)

    # -- what the supervisor says -------------------------------------------------------------------------------

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        self._wire.send("started", name, attempt, pid)

    def on_line(self, name: str, line: str, stream: str) -> None:
        self._wire.send("line", name, line, stream)

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        if self._metrics is not None:
            self._metrics.flush()
        self._wire.send("exited", name, attempt, exit)

    def _prepare(self, run_id: str) -> None:
        self._supervisor = self._supervisor or Supervisor(self, run_id=run_id, folder=self._folder)
        self._supervisor.prepare()

    def _mapped(self, cwd: str) -> str:
        """A folder of the launcher's tree, as it is called here."""
        tree = self._host_setup.tree if self._host_setup else None
        if tree is not None:
            with contextlib.suppress(ValueError):
                return str(Path(self._here) / Path(cwd).relative_to(tree))
        return cwd

    def _secret(self, name: str, content: bytes) -> str:
        """Write a file that only its owner can read; its path."""
        path = self._folder / name
        write_own(path, content)
        return str(path)


def _named(spec: ProcessSpec, inventory: Inventory) -> ProcessSpec:
    """A process whose devices are places, with the devices themselves.

    CPUs are pinned where the engine keeps this host to those that it gave; where it does not, others use them as well.
    """
    gpus = [inventory.gpus[int(place)] for place in spec.gpus] if spec.gpus else None
    cpus = None
    if spec.cpus and len(inventory.cpus) < (os.cpu_count() or 1) and max(spec.cpus) < len(inventory.cpus):
        cpus = tuple(inventory.cpus[place] for place in spec.cpus)
    return spec.with_devices(cpus, gpus)
