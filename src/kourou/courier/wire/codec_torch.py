"""How torch tensors of the CPU cross: their storage as a buffer.

A storage that is used in full travels once for all the tensors that share it, so tied weights are still tied on
arrival. Of a view of a larger storage only what it shows is sent. Tensors on other devices go through the host, by
torch's own reducers.

Imported only once torch is.
"""

from __future__ import annotations

import ctypes
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch


def _reduce_tensor(tensor: torch.Tensor) -> Any:
    plain = tensor.device.type == "cpu" and tensor.layout is torch.strided
    if not plain or tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg():
        return tensor.__reduce_ex__(2)  # type: ignore[no-untyped-call]
    if tensor.requires_grad and not tensor.is_leaf:
        raise pickle.PicklingError("a tensor that is part of an autograd graph; send tensor.detach()")
    shown = tensor.detach()
    if shown.numel() * shown.element_size() < shown.untyped_storage().nbytes():
        shown = shown.clone(memory_format=torch.contiguous_format)
    parts = (
        shown.untyped_storage(),
        shown.dtype,
        shown.storage_offset(),
        tuple(shown.shape),
        shown.stride(),
        tensor.requires_grad,
        type(tensor) is torch.nn.Parameter,
    )
    attributes = vars(tensor)
    if attributes:
        return _rebuild_tensor, parts, attributes, None, None, _set_attributes
    return _rebuild_tensor, parts


def _rebuild_tensor(
    storage: torch.UntypedStorage,
    dtype: torch.dtype,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,  # noqa: FBT001 - called by pickle only
    is_parameter: bool,  # noqa: FBT001 - called by pickle only
) -> torch.Tensor:
    tensor = torch.empty(0, dtype=dtype).set_(storage, offset, shape, stride)
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad) if requires_grad else tensor


def _set_attributes(tensor: torch.Tensor, attributes: dict[str, Any]) -> None:
    vars(tensor).update(attributes)


def _reduce_storage(storage: torch.UntypedStorage) -> Any:
    if storage.device.type != "cpu":
        return storage.__reduce_ex__(2)
    size = storage.nbytes()
    if size == 0:
        return torch.UntypedStorage, ()
    memory = (ctypes.c_ubyte * size).from_address(storage.data_ptr())
    memory.owner = storage  # type: ignore[attr-defined]  # the storage lives for as long as somebody reads it here
    return _rebuild_storage, (pickle.PickleBuffer(memory),)


def _rebuild_storage(buffer: bytearray | memoryview) -> torch.UntypedStorage:
    return torch.frombuffer(buffer, dtype=torch.uint8).untyped_storage()


REDUCERS: Mapping[type, Callable[[Any], Any]] = {
    torch.Tensor: _reduce_tensor,
    torch.nn.Parameter: _reduce_tensor,
    torch.UntypedStorage: _reduce_storage,
}
