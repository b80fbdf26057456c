"""How NumPy arrays cross: their memory as a buffer, their dtype, shape and order as a few pickled bytes.

NumPy's own reducer keeps read-only arrays read-only, copies Fortran order in some cases and refuses dtypes that
have no buffer format (datetime64, bfloat16). Here every array arrives writable and in the order it had.

Imported only once NumPy is.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]


class _Writable:
    """An array's memory without its read-only flag. It is only read; the flag would travel with the buffer."""

    def __init__(self, array: _Array) -> None:
        self._keep = array
        pointer, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (pointer, False)}


def as_writable(memory: Any) -> memoryview:
    """The same memory, said to be writable; for those who only read it and take nothing else."""
    array: Any = np.asarray(_Writable(np.frombuffer(memory, np.uint8)))
    return memoryview(array)


_NUMBERS = frozenset("?bBhHiIlLqQefdFD")  # dtypes that one character names, and that have a buffer format


def _reduce(array: Any) -> Any:
    dtype = array.dtype
    flags = array.flags
    if dtype.char in _NUMBERS and flags.c_contiguous and flags.writeable and dtype.isbuiltin == 1 and array.size:
        return np.ndarray, (array.shape, dtype.char, pickle.PickleBuffer(array))  # the common case, and cheap
    if dtype.hasobject:
        return array.__reduce_ex__(2)  # objects are pickled one by one; protocol 2 makes the array writable
    order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    if array.nbytes == 0:
        return np.empty, (array.shape, dtype, order)
    flat: Any = (array.T if order == "F" else np.ascontiguousarray(array)).reshape(-1).view(np.uint8)
    if not flat.flags.writeable:
        flat = np.asarray(_Writable(flat))
    return _rebuild, (pickle.PickleBuffer(memoryview(flat)), dtype, array.shape, order)


def _rebuild(buffer: bytearray | memoryview, dtype: Any, shape: tuple[int, ...], order: Any) -> _Array:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


REDUCERS: Mapping[type, Callable[[Any], Any]] = {np.ndarray: _reduce}
