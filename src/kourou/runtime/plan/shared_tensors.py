"""Tensors in shared memory (``tensor.share_memory_()``, ``module.share_memory()``): nodes of one host share them.

The memory is a file without a name that its owner keeps open; whoever is of the same user finds it below ``/proc``.

Imported only once torch is.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from kourou.courier.wire import codec_torch


def reducers(*, one_host: bool) -> Mapping[type, Callable[[Any], Any]]:
    """How payloads pickle tensors.

    Args:
        one_host: the nodes are processes of this host, so what is shared stays so. Elsewhere it is refused: a copy for
            each would be what nobody meant.
    """
    return {
        torch.Tensor: _reduce_tensor,
        torch.UntypedStorage: _Sharing().reduce if one_host else _refuse_shared,
    }


class _Sharing:
    """Keeps the memory of what was shared for as long as somebody may ask for it: nodes start again."""

    def __init__(self) -> None:
        self._kept: dict[int, torch.UntypedStorage] = {}

    def reduce(self, storage: torch.UntypedStorage) -> Any:
        """How to pickle a storage."""
        if not _is_shared(storage) or not Path("/proc/self/fd").exists():
            return codec_torch.REDUCERS[torch.UntypedStorage](storage)
        descriptor, size = storage._share_fd_cpu_()  # torch.multiprocessing uses these two as well
        self._kept[descriptor] = storage
        return _map_again, (os.getpid(), descriptor, size)


def _reduce_tensor(tensor: torch.Tensor) -> Any:
    if tensor.requires_grad and not tensor.is_leaf:  # an attribute of a module, such as a normalised weight
        tensor = tensor.detach()
    return codec_torch.REDUCERS[torch.Tensor](tensor)


def _refuse_shared(storage: torch.UntypedStorage) -> Any:
    if _is_shared(storage):
        raise pickle.PicklingError(
            "a tensor in shared memory, which processes of several hosts cannot share; send tensor.clone()"
        )
    return codec_torch.REDUCERS[torch.UntypedStorage](storage)


def _is_shared(storage: torch.UntypedStorage) -> bool:
    return storage.device.type == "cpu" and storage.nbytes() > 0 and storage.is_shared()


def _map_again(owner: int, descriptor: int, size: int) -> torch.UntypedStorage:
    opened = os.open(f"/proc/{owner}/fd/{descriptor}", os.O_RDWR)
    try:
        new: Any = torch.UntypedStorage
        return new._new_shared_fd_cpu(opened, size)  # type: ignore[no-any-return]  # noqa: SLF001 - public under no other name
    finally:
        os.close(opened)
