"""The torch process group of a run: made without a race for a port, and taken down when the function has returned."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kourou.spmd.places import Place, Rendezvous

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

__all__ = ["bind", "joined", "torch_is_there"]

_STORE_S = 300.0  # what torch gives the parts of a rendezvous; a worker that died ends the run before that


def torch_is_there() -> bool:
    """Whether torch is installed; it is not imported for that."""
    return importlib.util.find_spec("torch") is not None


@contextlib.contextmanager
def joined(
    place: Place, rendezvous: Rendezvous, *, backend: str | None, timeout_s: float, listener: int | None
) -> Iterator[None]:
    """While entered, this worker belongs to the run's process group.

    Rank 0 serves torch's store on a socket that was bound before any worker was told the port. It does so with
    ``backend=None`` as well: a library that calls ``init_process_group("env://")`` by itself finds that store.

    Args:
        place: who this is.
        rendezvous: where the store is.
        backend: of the group; None makes none.
        timeout_s: of the group's operations.
        listener: descriptor of the bound socket, in rank 0.
    """
    if not torch_is_there():
        yield
        return
    store = _serve_store(rendezvous, place.world_size, listener) if listener is not None else None
    if backend is None:
        yield
        del store
        return
    import torch.distributed as dist  # noqa: PLC0415 - imported already by the zygote

    store = store or _store(rendezvous, place.world_size)
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("kourou", store),  # type: ignore[attr-defined]  # it is public, but not declared so
        rank=place.rank,
        world_size=place.world_size,
        timeout=datetime.timedelta(seconds=timeout_s),
    )
    yield  # when it raises, the process ends at once: a group whose members are gone may not let itself be destroyed
    if dist.is_initialized():
        dist.destroy_process_group()
    _leave_together(place, store)


def _serve_store(rendezvous: Rendezvous, world_size: int, listener: int) -> TCPStore:
    # multi_tenant: who asks for a store on the same port in this process gets this one.
    return _store(rendezvous, world_size, is_master=True, master_listen_fd=listener, multi_tenant=True)


def _store(rendezvous: Rendezvous, world_size: int, **options: Any) -> TCPStore:
    import torch.distributed as dist  # noqa: PLC0415 - imported already by the zygote

    return dist.TCPStore(  # type: ignore[attr-defined]  # it is public, but not declared so
        rendezvous.address,
        rendezvous.port,
        world_size,
        wait_for_workers=False,
        timeout=datetime.timedelta(seconds=_STORE_S),
        **options,
    )


def _leave_together(place: Place, store: TCPStore) -> None:
    """Rank 0 goes last: watchdogs of the others still read its store."""
    if store.add("kourou/left", 1) == place.world_size:
        store.set("kourou/all_left", "1")
    if place.rank == 0:
        store.wait(["kourou/all_left"], datetime.timedelta(days=365))  # it is killed if another one fails


def bind(address: str, backlog: int) -> socket.socket:
    """A listening socket on a free port of an address, to be handed to rank 0."""
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((address, 0))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener
