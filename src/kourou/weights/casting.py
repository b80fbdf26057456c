"""Weights with fewer bits than the learner's own."""

from __future__ import annotations

from typing import Any

from kourou.cpython import imported
from kourou.errors import WeightsError
from kourou.nested import map_leaves
from kourou.shown import shown

_TYPES = ("bfloat16", "float16")
_BYTES = 2  # of either


def cast_floats(weights: Any, to: str) -> Any:
    """The same structure, with wider floating-point arrays and tensors as this type; all else as it is.

    Raises:
        WeightsError: there is no such type, or nothing to be cast.
    """
    if to not in _TYPES:
        raise WeightsError(f"weights are cast to {' or '.join(_TYPES)}, not to {shown(to)}")
    torch: Any = imported("torch")
    numpy: Any = imported("numpy")

    def cast(leaf: Any) -> Any:
        if torch is not None and isinstance(leaf, torch.Tensor):
            wide = leaf.is_floating_point() and leaf.element_size() > _BYTES
            return leaf.detach().to(getattr(torch, to)) if wide else leaf
        kind: Any = getattr(leaf, "dtype", None)
        if numpy is None or not isinstance(kind, numpy.dtype) or kind.kind != "f" or kind.itemsize <= _BYTES:
            return leaf
        return leaf.astype(_numpy_type(numpy, to))  # NumPy's arrays and JAX's

    found = map_leaves(cast, weights)
    if found is weights:
        raise WeightsError(f"there is nothing to be cast to {to}: no array or tensor of more than {8 * _BYTES} bits")
    return found


def _numpy_type(numpy: Any, name: str) -> Any:
    if name == "float16":
        return numpy.float16
    try:
        import ml_dtypes  # noqa: PLC0415 - few need it
    except ModuleNotFoundError as error:
        raise WeightsError("NumPy has no bfloat16 without the package ml_dtypes: pip install ml-dtypes") from error
    return ml_dtypes.bfloat16
