"""NumPy, or the reason why it is missing, and the names of the array types that replay uses."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

from kourou.errors import MissingExtra

try:
    import numpy as np
except ImportError as error:
    raise MissingExtra("numpy", "replay") from error

__all__ = ["Array", "Floats", "Integers", "Keys", "Refs", "Slots", "grown", "np"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Keys: TypeAlias = "np.ndarray[Any, np.dtype[np.uint64]]"
"""Keys of items, [n]. A key names one item of a server for ever; it is never used again."""
Slots: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
"""Places in a table's arrays, [n]. A slot is used again once its item is gone."""
Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Integers: TypeAlias = "np.ndarray[Any, np.dtype[np.signedinteger[Any]]]"
Refs: TypeAlias = "np.ndarray[Any, np.dtype[np.int32]]"
"""Where the data of items lies, [n, 3]: pattern, first block, row within that block."""

_A = TypeVar("_A", bound="np.ndarray[tuple[int, ...], np.dtype[np.generic]]")
_LEAST_CAPACITY = 64


def grown(array: _A, size: int) -> _A:
    """The array, or a longer copy that has room for ``size`` elements along its first axis."""
    if size <= len(array):
        return array
    capacity = max(_LEAST_CAPACITY, 1 << (size - 1).bit_length())
    longer = np.zeros((capacity, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer  # type: ignore[return-value]  # of the same type but for its length
