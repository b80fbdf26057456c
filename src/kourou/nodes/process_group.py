"""The torch process group of some workers: made without a race for a port, and taken down when they are done.

Rank 0 serves torch's store on a socket that was bound before anybody was told its port. It does so where no group is
asked for as well: a library that calls ``init_process_group("env://")`` by itself finds that store.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kourou import errors
from kourou.nodes.ranks import Place, Rendezvous

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

Backend: TypeAlias = Literal["auto", "nccl", "gloo", "mpi", "ucc"]
"""Of a process group; "auto": nccl where every rank has a GPU, else gloo."""

_STORE_S = 300.0  # for parts of a rendezvous; a worker that dies in it ends it before that, by the others' hands
_POLL_S = 0.005  # a wait inside of torch would let no signal through
_JOINED = "kourou/joined"


def torch_is_there() -> bool:
    """Whether torch is installed; it is not imported for that."""
    return importlib.util.find_spec("torch") is not None


def bind(address: str, backlog: int) -> socket.socket:
    """A listening socket on a free port of an address, to be handed to rank 0.

    Raises:
        OSError: this host does not have that address.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((address, 0))
        listener.listen(max(backlog, socket.SOMAXCONN))
    except OSError:
        listener.close()
        raise
    return listener


def serve_store(rendezvous: Rendezvous, world_size: int, listener: int) -> TCPStore:
    """Rank 0's store, served on the socket of descriptor ``listener``, which it takes over."""
    # multi_tenant: who asks for a store on the same port in this process gets this one.
    return _store(rendezvous, world_size, is_master=True, master_listen_fd=listener, multi_tenant=True)


def reach_store(rendezvous: Rendezvous, world_size: int) -> TCPStore:
    """The store, as the other ranks have it."""
    return _store(rendezvous, world_size)


def find_place(store: TCPStore, rank: int, world_size: int, host: str) -> Place:
    """Where a rank stands among the others, once all have told their hosts.

    Ranks of one host count on it in their own order; hosts are numbered by their first rank.
    """
    hosts = _exchange(store, "kourou/host", host, rank, world_size)
    return Place(
        rank=rank,
        local_rank=hosts[:rank].count(host),
        group_rank=list(dict.fromkeys(hosts)).index(host),
        hostname=host,
        world_size=world_size,
        local_world_size=hosts.count(host),
        group_world_size=len(set(hosts)),
    )


def assemble(store: TCPStore, place: Place) -> None:
    """Say that this rank is there; rank 0 returns when all are."""
    _gather(store, place, "kourou/here")


@contextlib.contextmanager
def grouped(store: TCPStore, place: Place, *, backend: Backend, timeout_s: float) -> Iterator[None]:
    """While entered, this worker belongs to torch's default process group.

    Raises:
        PlanError: the backend is nccl, and this rank has no GPU.
    """
    import torch.distributed as dist  # noqa: PLC0415 - slow to import, and imported already in most who call this

    dist.init_process_group(
        _usable(backend, store, place),
        store=dist.PrefixStore("kourou", store),  # type: ignore[attr-defined]  # it is public, but not declared so
        rank=place.rank,
        world_size=place.world_size,
        timeout=datetime.timedelta(seconds=timeout_s),
    )
    store.add(_JOINED, 1)
    yield  # when it raises, the process ends at once: a group whose members are gone may not let itself be destroyed
    _wait(store, _JOINED, place)  # a member that leaves while another still connects takes it for dead
    if dist.is_initialized():
        dist.destroy_process_group()
    _gather(store, place, "kourou/left")  # rank 0 goes last: watchdogs of the others still read its store


def _usable(backend: Backend, store: TCPStore, place: Place) -> Backend:
    if backend not in {"auto", "nccl"}:
        return backend
    import torch  # noqa: PLC0415 - slow to import

    has_gpu = torch.cuda.is_available()  # also true of AMD's GPUs, whose library calls itself nccl
    if backend == "auto":
        said = _exchange(store, "kourou/gpu", str(has_gpu), place.rank, place.world_size)
        return "nccl" if set(said) == {"True"} else "gloo"
    if not has_gpu:
        raise errors.PlanError(
            f"backend='nccl' is for GPUs, and torch finds none for {place}: say backend='gloo', or 'auto', which takes "
            "nccl where every rank has a GPU and gloo elsewhere"
        )
    return backend


def _exchange(store: TCPStore, key: str, own: str, rank: int, world_size: int) -> list[str]:
    """What all ranks say, in their order, once all have said it."""
    keys = [f"{key}/{other}" for other in range(world_size)]
    store.set(keys[rank], own)
    while not store.check(keys):
        time.sleep(_POLL_S)
    return [store.get(other).decode() for other in keys]


def _gather(store: TCPStore, place: Place, key: str) -> None:
    """Count this rank; rank 0 waits until all are counted."""
    store.add(key, 1)
    if place.rank == 0:
        _wait(store, key, place)


def _wait(store: TCPStore, key: str, place: Place) -> None:
    while store.add(key, 0) < place.world_size:
        time.sleep(_POLL_S)


def _store(rendezvous: Rendezvous, world_size: int, **options: Any) -> TCPStore:
    import torch.distributed as dist  # noqa: PLC0415 - slow to import, and imported already in most who call this

    return dist.TCPStore(  # type: ignore[attr-defined]  # it is public, but not declared so
        rendezvous.address,
        rendezvous.port,
        world_size,
        wait_for_workers=False,
        timeout=datetime.timedelta(seconds=_STORE_S),
        **options,
    )
