"""Which arrays replay takes: those that arrive as they were. Whatever is inserted or appended comes through here."""

from __future__ import annotations

import functools
import pickle
from typing import Any

from kourou.replay.arrays.array_types import Array, np
from kourou.replay.arrays.tree import Path, path_text

_MaskedArray = np.ma.MaskedArray
_TEXT = "US"  # kinds of dtypes whose arrays have room for texts of some length, and take shorter ones


def as_array(value: Any, whose: str, path: Path) -> Array:
    """The value as an array of a dtype that can be stored.

    Raises:
        TypeError: it is no array of a fixed dtype, but an object.
        ValueError: it is an array that would not arrive as it is; says what to give instead.
    """
    if value.__class__ is not np.ndarray and isinstance(value, _MaskedArray):
        raise ValueError(
            f"{whose}{path_text(path)} is a masked array, whose mask would be lost: give .data and .mask as two arrays,"
            " or .filled(value)"
        )
    try:
        array: Array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{whose}{path_text(path)}: NumPy cannot take this {type(value).__name__} ({error}). Of a tensor give "
            ".detach().cpu(), of one of bfloat16 or float8 also .float(), or for its bits .view(torch.int16) or "
            ".view(torch.uint8)"
        ) from error
    dtype = array.dtype
    if _is_whole(dtype):
        return array
    if dtype.kind == "T":
        raise ValueError(f"{whose}{path_text(path)} is of {dtype}, whose texts lie elsewhere: give .astype('U')")
    if dtype.hasobject:
        raise TypeError(f"{whose}{path_text(path)} is no array of a fixed dtype: {type(value).__name__} of {dtype}")
    raise ValueError(f"{whose}{path_text(path)}: {_why_not(dtype)}")


def checked_dtype(dtype: Any, path: Path) -> np.dtype[Any]:
    """The dtype of the column at a path, if arrays of it have a fixed size and it means the same at the other end.

    Raises:
        ValueError: not so.
    """
    found: np.dtype[Any] = np.dtype(dtype)
    if not _is_whole(found):
        raise ValueError(f"the column{path_text(path)}: {_why_not(found)}")
    return found


def _why_not(dtype: np.dtype[Any]) -> str:
    return (
        f"arrays of {dtype} cannot be stored, since that has no fixed size or cannot be described to others; give "
        ".view(numpy.uint8) of them, or their fields one by one"
    )


@functools.lru_cache(maxsize=256)
def _is_whole(dtype: np.dtype[Any]) -> bool:
    """Whether its arrays are so many bytes each, and it survives its way to others, who get it pickled."""
    if dtype.hasobject or not dtype.itemsize:
        return False
    try:
        return bool(pickle.loads(pickle.dumps(dtype)) == dtype)  # our own bytes
    except Exception:  # noqa: BLE001 - a dtype of somebody else's making may raise anything
        return False


def can_take(column: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Whether a column holds arrays of a dtype as they are: the same, or shorter texts."""
    if column == dtype:
        return True
    return column.kind in _TEXT and column.kind == dtype.kind and dtype.itemsize <= column.itemsize


def widened(column: np.dtype[Any], dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """A dtype with room for longer texts than a column has, for the next ones, too; None if they are no texts."""
    if column.kind not in _TEXT or column.kind != dtype.kind:
        return None
    return common_dtype(dtype, np.dtype((column.type, 2 * column.itemsize // np.dtype((column.type, 1)).itemsize)))


def common_dtype(*dtypes: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype that takes arrays of all of these; None if there is none that keeps them as they are."""
    if len(set(dtypes)) == 1:
        return dtypes[0]
    kinds = {dtype.kind for dtype in dtypes}
    return np.result_type(*dtypes) if len(kinds) == 1 and kinds <= set(_TEXT) else None
