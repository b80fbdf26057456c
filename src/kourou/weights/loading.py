"""Copying weights into what is there already."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import Any

from kourou.cpython import imported
from kourou.errors import WeightsError
from kourou.nested import parts_of
from kourou.shown import shown

_ALIGNMENT = 256  # of tensors on a device


def load_into(target: Any, weights: Any) -> None:
    """Copy weights into a model, or leaf by leaf into a structure like theirs.

    Raises:
        WeightsError: the structures differ; says where. What came before that place is copied.
    """
    load = getattr(target, "load_state_dict", None)
    if load is not None:
        load(_near(target, weights))
    else:
        _copy(target, weights, "")


def only_copies(target: Any) -> bool:
    """Whether loading into it keeps nothing of what it is given: arrays do not, nor torch's own modules.

    Optimizers keep tensors, and so may modules that have a say in how they are loaded.
    """
    if not hasattr(target, "load_state_dict"):
        return True
    torch: Any = imported("torch")
    if torch is None or not isinstance(target, torch.nn.Module):
        return False
    module = torch.nn.Module

    def is_plain(part: Any) -> bool:
        kind = type(part)
        own = kind._load_from_state_dict.__module__.startswith("torch.nn.modules.")  # noqa: SLF001 - what there is
        hooks = getattr(part, "_load_state_dict_pre_hooks", True)
        return bool(own and not hooks and kind.set_extra_state is module.set_extra_state)

    return type(target).load_state_dict is module.load_state_dict and all(map(is_plain, target.modules()))


def _near(model: Any, weights: Any) -> Any:
    """A state dict whose tensors are on the model's device, if it is one device and not the CPU."""
    torch: Any = imported("torch")
    if torch is None or not isinstance(model, torch.nn.Module) or not isinstance(weights, dict):
        return weights
    devices = {tensor.device for tensor in model.state_dict().values() if isinstance(tensor, torch.Tensor)}
    device = devices.pop() if len(devices) == 1 else None
    if device is None or device.type != "cuda":
        return weights
    here = {
        name: value for name, value in weights.items() if isinstance(value, torch.Tensor) and value.device.type == "cpu"
    }
    near = copy.copy(weights)  # with what torch's modules say of their versions
    near.update(moved(here, device, pinned=True))
    return near


def moved(tensors: Mapping[str, Any], device: Any, *, pinned: bool) -> dict[str, Any]:
    """Tensors on another device, by one copy of all of them, which need not be over when this returns.

    They are gathered in memory that the device reads by itself (``pinned``): from there, other than from memory that is
    shared with the publisher, a copy runs beside the caller. What the device does next with the tensors waits for it.
    """
    torch: Any = sys.modules["torch"]
    places, size = {}, 0
    for name, tensor in tensors.items():
        places[name] = size
        size += -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
    gathered = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)

    def part(memory: Any, name: str) -> Any:
        tensor, start = tensors[name], places[name]
        there = memory[start : start + tensor.numel() * tensor.element_size()]
        return there.view(tensor.dtype).view(tensor.shape)

    for name, tensor in tensors.items():
        part(gathered, name).copy_(tensor)
    on_device = gathered.to(device, non_blocking=True)  # torch keeps the pinned memory until it has been read
    return {name: part(on_device, name) for name in tensors}


def _copy(target: Any, weights: Any, path: str) -> None:
    parts, new = parts_of(target), parts_of(weights)
    if parts is not None and new is not None:
        found = dict(zip(new.names, new.values, strict=True))
        if set(parts.names) != set(found):
            odd = sorted(map(str, set(parts.names) ^ set(found)))
            raise WeightsError(f"the target has not what the weights have at {path or 'the top'}: {', '.join(odd)}")
        for name, part in zip(parts.names, parts.values, strict=True):
            _copy(part, found[name], path + parts.form.step(name))
        return
    try:
        _copy_leaf(target, weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"the weights{path} cannot be loaded: {error}") from error


def _copy_leaf(target: Any, value: Any) -> None:
    torch: Any = imported("torch")
    if torch is not None and isinstance(target, torch.Tensor):
        if target.shape != value.shape:
            raise ValueError(f"a tensor of {tuple(target.shape)}, and weights of {tuple(value.shape)}")
        with torch.no_grad():
            target.copy_(value)
        return
    numpy: Any = imported("numpy")
    if numpy is not None and isinstance(target, numpy.ndarray):
        if target.shape != numpy.shape(value):
            raise ValueError(f"an array of {target.shape}, and weights of {numpy.shape(value)}")
        numpy.copyto(target, value)
        return
    if type(target) is not type(value) or target != value:
        raise TypeError(f"{shown(target)} cannot be changed in place; take view.weights instead")
