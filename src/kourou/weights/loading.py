"""Copying weights into what is there already."""

from __future__ import annotations

import sys
from typing import Any

from kourou.errors import WeightsError
from kourou.nested import parts_of
from kourou.shown import shown

__all__ = ["load_into"]


def load_into(target: Any, weights: Any) -> None:
    """Copy weights into a model, or leaf by leaf into a structure like theirs.

    Raises:
        WeightsError: the structures differ; says where. What came before that place is copied.
    """
    load = getattr(target, "load_state_dict", None)
    if load is not None:
        load(weights)
    else:
        _copy(target, weights, "")


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
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(target, torch.Tensor):
        if target.shape != value.shape:
            raise ValueError(f"a tensor of {tuple(target.shape)}, and weights of {tuple(value.shape)}")
        with torch.no_grad():
            target.copy_(value)
        return
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(target, numpy.ndarray):
        if target.shape != numpy.shape(value):
            raise ValueError(f"an array of {target.shape}, and weights of {numpy.shape(value)}")
        numpy.copyto(target, value)
        return
    if type(target) is not type(value) or target != value:
        raise TypeError(f"{shown(target)} cannot be changed in place; take view.weights instead")
