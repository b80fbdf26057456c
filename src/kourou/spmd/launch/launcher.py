"""The Launcher: a function, run by a group of processes on one or several hosts."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import weakref
from collections.abc import Callable, Coroutine, Mapping
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar, overload

from kourou import errors
from kourou.arguments import also_named
from kourou.closing import ClosedAtExit
from kourou.courier.wire import codec
from kourou.nodes.process_group import torch_is_there
from kourou.nodes.ranks import LOOPBACK_INTERFACE
from kourou.runtime.host_agent.addresses import interface_of, is_this_machine
from kourou.runtime.interpreter.user_code import unrun
from kourou.runtime.launchers.ssh.connection import SshOptions
from kourou.runtime.metrics.log import metrics_owner
from kourou.runtime.model.engines import EngineOptions, Shape
from kourou.runtime.model.inventory import Inventory, Request, allocate
from kourou.script.packed import pack
from kourou.shown import shown
from kourou.spmd.hosts.places import Host, assign_ranks
from kourou.spmd.hosts.remote import RemoteHost
from kourou.spmd.hosts.resolve import Hostnames, resolve_hostnames, resolve_hosts
from kourou.spmd.launch.host_pool import HostPool
from kourou.spmd.launch.job import JobSpec, Way
from kourou.spmd.launch.log_handlers import log_level
from kourou.spmd.launch.output import HandlerFactory, OnOutput
from kourou.spmd.launch.results import LaunchFuture, LaunchResult
from kourou.spmd.worker.environment import DEFAULT_ENV_VARS_FOR_COPY, user_variables
from kourou.working_folder import working_folder

if TYPE_CHECKING:
    Where: TypeAlias = Hostnames | EngineOptions
else:  # command lines are made of a field's type, and have no words for an engine
    Where = Hostnames

P = ParamSpec("P")
R = TypeVar("R")


@also_named(worker_timeout="worker_timeout_s", agent_timeout="agent_timeout_s")
@dataclasses.dataclass
class Launcher(ClosedAtExit):
    """Runs functions in groups of processes.

    A Launcher owns what its runs share (a helper process that has torch imported, so that a second run starts in
    milliseconds). That ends with :meth:`close`, with the end of a ``with`` block, when the Launcher is garbage, or at
    the interpreter's exit, whichever comes first.
    """

    hostnames: Where = "auto"
    """Names or addresses. "auto": the hosts of the Slurm job that this runs in, else ["localhost"]. "slurm": those of
    the job. Rank 0 is on the first. Loopback addresses such as 127.0.0.2 are hosts of their own on this machine. An
    engine, such as ``lp.Slurm(nodes=2, gpus_per_node=4)``: its hosts, which are allocated for the first run and kept
    until :meth:`close`."""
    workers_per_host: int | list[int] | Literal["cpu", "gpu"] = "gpu"
    """Workers on every host, or one number for each, or one for every CPU or GPU that a host lets us use."""
    ssh_config_file: str | Path | None = None
    """For ssh; None: the user's and the system's."""
    backend: Literal["auto", "nccl", "gloo", "mpi", "ucc"] | None = "auto"
    """Of torch's process group, which is set up around the function. "auto": nccl where every worker has a GPU, else
    gloo. None: there is none."""
    worker_timeout_s: float = 600
    """For operations of the process group."""
    agent_timeout_s: float = 60
    """For another host's agent to answer."""
    copy_env_vars: tuple[str, ...] = DEFAULT_ENV_VARS_FOR_COPY
    """Patterns of names: these variables are copied to other hosts. Workers of this one inherit all."""
    extra_env_vars: dict[str, str] | None = None
    """Variables on top of the copied ones."""
    env_file: str | Path | None = None
    """A file of NAME=value lines on top of both; read here, and the same on every host."""
    retries: int = 0
    """How often a run is repeated after a failure that its function did not raise (a killed worker, a lost host)."""
    gpus_per_worker: int | None = None
    """So many GPUs are each worker's own, by CUDA_VISIBLE_DEVICES. None: that variable is left alone."""
    sync: Literal["rsync"] | None = None
    """None: hosts share the file system that the code is on. "rsync": the working folder is copied to the others first,
    below ``~/.cache/kourou/trees`` and without what .gitignore names; workers run in the copy."""
    setup: Callable[[], object] | None = None
    """Called in each worker before the function and its arguments are unpickled, and in the processes that it starts by
    spawn or forkserver. None: nothing is."""
    handler_factory: HandlerFactory = dataclasses.field(default="auto", init=False, repr=False)
    """See :meth:`set_logging_handlers`."""
    on_output: OnOutput | None = dataclasses.field(default=None, init=False, repr=False)
    """See :meth:`set_on_output`."""

    def __post_init__(self) -> None:
        self._attach_pool()

    @overload
    def run(
        self, func: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> LaunchResult[R]: ...
    @overload
    def run(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> LaunchResult[R]: ...
    def run(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> LaunchResult[Any]:
        """Call ``func(*args, **kwargs)`` in every worker, and wait. An ``async def`` runs on an event loop of its own.

        Arguments and results travel once to and from each host. When a worker fails, all others are ended.

        Returns:
            What the workers returned.

        Raises:
            Exception: what the function raised, first of all workers: an instance of its own class and of RemoteError,
                with ``rank``, ``hostname`` and the worker's traceback.
            WorkerFailedError: a worker ended without a result.
            AgentFailedError: a host could not be reached, or was lost.
            LaunchError: the working folder could not be copied to a host.
            SerializationError: the function, an argument or a result cannot be pickled.
            PlanError: a host has fewer GPUs than ``gpus_per_worker`` asks for; or the backend is nccl, and a worker has
                none.
            RuntimeError: ``"slurm"`` outside of a job, or ``"gpu"`` without GPUs.
            ValueError: a field has no meaning.
            MissingExtra: there is a backend, but no torch.
            StopRequested: the node that this code is of is to stop; all workers were ended.
        """
        future = self.submit(func, *args, **kwargs)
        try:
            return future.result()
        except BaseException:
            if not future.done():  # Ctrl-C, or a stop of the program that this runs in
                future.cancel()
                futures.wait([future])  # asking for its exception would raise that it was cancelled, in place of this
            raise
        finally:
            del future  # or the error's traceback would keep itself alive

    @overload
    def submit(
        self, func: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> LaunchFuture[R]: ...
    @overload
    def submit(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> LaunchFuture[R]: ...
    def submit(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> LaunchFuture[Any]:
        """As :meth:`run`, without waiting. ``cancel()`` ends the workers. Any number of runs may be under way.

        Raises:
            As run, for all that is known before a worker starts.
        """
        if not callable(func):
            raise TypeError(f"run() and submit() take a function and its arguments, not {shown(func)}")
        for problem in unrun(func):
            raise TypeError(problem)
        spec = self._job_spec()
        name = getattr(func, "__qualname__", shown(func))
        values = {"the function": func, "args": args, "kwargs": kwargs}
        setup = () if self.setup is None else (self.setup,)
        call = codec.encode(pack(values, name, setup=setup, reducers=codec.reducers()), name)
        return self._pool.submit(spec, call, owner=self)

    def set_logging_handlers(self, factory: HandlerFactory) -> Launcher:
        """Say where the workers' lines go; returns this Launcher.

        Args:
            factory: makes the handlers of a run; they are closed at its end. "auto": see
                :func:`kourou.spmd.default_handlers`. None: there are none.
        """
        self.handler_factory = factory
        return self

    def set_on_output(self, callback: OnOutput | None) -> Launcher:
        """Have a function called with every :class:`Line` that workers print, in order; returns this Launcher."""
        self.on_output = callback
        return self

    def close(self) -> None:
        """End the runs under way, and what is kept for the next. Idempotent; the Launcher may be used again."""
        self._pool.close()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in {"_pool", "_finalizer"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._attach_pool()

    def _attach_pool(self) -> None:
        self._pool = HostPool()
        self._finalizer = weakref.finalize(self, self._pool.close_when_dropped)

    def _job_spec(self) -> JobSpec:
        for field in ("worker_timeout_s", "agent_timeout_s"):
            seconds = getattr(self, field)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
                raise ValueError(f"{field} is a number of seconds above 0, not {shown(seconds)}")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise ValueError(f"retries is a whole number >= 0, not {shown(self.retries)}")
        if self.sync not in {None, "rsync"}:
            raise ValueError(f"sync is None or 'rsync', not {shown(self.sync)}")
        if isinstance(self.copy_env_vars, str):
            raise ValueError(f"copy_env_vars is a tuple of patterns, not the text {shown(self.copy_env_vars)}")  # noqa: TRY004
        if self.backend is not None and not torch_is_there():
            raise errors.MissingExtra("torch", "torch")
        env = user_variables(os.environ, copy=self.copy_env_vars, extra=self.extra_env_vars, env_file=self.env_file)
        ssh = SshOptions(
            config_file=str(self.ssh_config_file) if self.ssh_config_file is not None else None,
            timeout_s=float(self.agent_timeout_s),
            cwd=str(working_folder()),
            sync=self.sync is not None,
        )
        way, names, elsewhere = self._way(ssh)
        remote = self._pool.connect(elsewhere, way)
        hosts = resolve_hosts(names, self.workers_per_host, lambda name: _inventory_of(remote.get(name)), elsewhere)
        return JobSpec(
            hosts=tuple(hosts),
            env=env,
            local_env=_local_variables(remote),
            devices=self._devices(hosts, remote),
            cwd=ssh.cwd,
            backend=self.backend,
            timeout_s=float(self.worker_timeout_s),
            log_level=log_level(),
            way=way,
            address=_rendezvous_address(names[0], remote),
            retries=self.retries,
            handlers=self.handler_factory,
            on_output=self.on_output,
            metrics_of=metrics_owner(),
        )

    def _way(self, ssh: SshOptions) -> tuple[Way, list[str], list[str]]:
        """How hosts are reached, the names of all, and of those that are not this machine."""
        engine = self.hostnames
        if not isinstance(engine, EngineOptions):
            names = resolve_hostnames(engine)
            return ssh, names, [name for name in names if not is_this_machine(name)]
        workers = self.workers_per_host if isinstance(self.workers_per_host, int) else 1
        shape = Shape(
            hosts=engine.nodes or 1,
            cpus=engine.cpus_per_node or workers,
            gpus=workers * (self.gpus_per_worker or 0) if engine.gpus_per_node is None else engine.gpus_per_node,
        )
        allocation = self._pool.allocation(engine, shape, ssh.timeout_s)
        return allocation, allocation.names, allocation.names

    def _devices(self, hosts: list[Host], remote: Mapping[str, RemoteHost]) -> dict[int, str]:
        """CUDA_VISIBLE_DEVICES by rank. Each host hands out its own GPUs; several names of this machine share them."""
        if self.gpus_per_worker is None:
            return {}
        devices: dict[int, str] = {}
        for machine in {remote.get(host.name) for host in hosts}:
            places = [place for place in assign_ranks(hosts) if remote.get(place.hostname) is machine]
            requests = [Request(name=f"worker/{place.rank}", gpus=self.gpus_per_worker) for place in places]
            try:
                given = allocate(requests, _inventory_of(machine))
            except errors.PlanError as error:
                raise errors.PlanError(f"{places[0].hostname}: {error}") from None
            devices.update({place.rank: ",".join(given[f"worker/{place.rank}"].gpus or ()) for place in places})
        return devices


def _inventory_of(host: RemoteHost | None) -> Inventory:
    inventory = Inventory.of_this_process() if host is None else host.inventory
    assert inventory is not None  # noqa: S101 - a host that was reached is known
    return inventory


def _local_variables(remote: Mapping[str, RemoteHost]) -> dict[str, str]:
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return {}
    seen = next((interface_of(host.launcher_address) for host in remote.values()), None)
    return {"GLOO_SOCKET_IFNAME": seen or LOOPBACK_INTERFACE}


def _rendezvous_address(first: str, remote: Mapping[str, RemoteHost]) -> str:
    """The address of the first host that all of them reach: never a name, which need not resolve."""
    if first in remote:
        return remote[first].address
    if remote:
        return next(iter(remote.values())).launcher_address
    return first if _LOOPBACK.fullmatch(first) else "127.0.0.1"


_LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+|::1")
