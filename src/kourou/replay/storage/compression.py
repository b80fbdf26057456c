"""Arrays made smaller for their way between hosts. Within one host, data lies in shared memory and is not touched."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from kourou.errors import MissingExtra
from kourou.replay.arrays.array_types import Array, np
from kourou.replay.arrays.tree import Path

_MODULES = {"zstd": "zstandard", "lz4": "lz4.frame"}
_LEAST_BYTES = 256  # of an array that is worth the trouble
_ZSTD_LEVEL = 1  # the level at which it compresses about as fast as a network of 10 Gbit/s takes the result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compression:
    """How a client's arrays travel when it shares no memory with its server, in both directions.

    Columns of integers are also written as differences of each row to the one before, where that makes them smaller:
    the frames of a game, for example, differ in little.

    Args:
        codec: ``zstd`` (smaller), ``lz4`` (faster) or None for none.
        columns: other codecs for some columns, by their path, or by its first name.

    Raises:
        ValueError: there is no such codec.
        MissingExtra: its package is not installed here. The server needs it, too.
    """

    codec: str | None = "zstd"
    columns: Mapping[Any, str | None] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for codec in {self.codec, *self.columns.values()}:
            if codec is not None:
                _library(codec)

    def codec_of(self, path: Path) -> str | None:
        """The codec of a column."""
        if path in self.columns:
            return self.columns[path]
        return self.columns.get(path[0], self.codec) if path else self.codec


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedArray:
    """A compressed array.

    Attributes:
        codec: by which.
        dtype, shape: of the array.
        axis: along which there are differences instead of values; None for values.
        data: what the codec made of it.
    """

    codec: str
    dtype: Any
    shape: tuple[int, ...]
    axis: int | None
    data: bytes


def pack(array: Array, codec: str | None, axis: int | None = 0) -> Array | PackedArray:
    """The array made smaller, or as it is where that does not help.

    Args:
        array: of a dtype of fixed size.
        codec: None leaves it as it is.
        axis: along which rows follow one another; None where they do not.
    """
    if codec is None or array.nbytes < _LEAST_BYTES:
        return array
    compress = _compressor(codec)
    array = np.ascontiguousarray(array)
    best, along = compress(array.view(np.uint8).reshape(-1)), None
    if axis is not None and array.dtype.kind in "iu" and array.shape[axis] > 1:
        differences = array.copy()
        later, earlier = _shifted(axis)
        np.subtract(array[later], array[earlier], out=differences[later])  # wraps around, as adding it up will
        smaller = compress(differences.view(np.uint8).reshape(-1))
        if len(smaller) < len(best):
            best, along = smaller, axis
    if len(best) >= array.nbytes:
        return array
    return PackedArray(codec=codec, dtype=array.dtype, shape=array.shape, axis=along, data=best)


def unpack(packed: Any) -> Any:
    """The array that was packed; anything else as it is.

    Raises:
        ValueError: the data is not what it claims to be.
    """
    if not isinstance(packed, PackedArray):
        return packed
    dtype = np.dtype(packed.dtype)
    size = dtype.itemsize * math.prod(packed.shape)
    raw = _decompress(packed.codec, packed.data, size)
    if len(raw) != size:
        raise ValueError(f"a compressed array of {len(raw)} bytes that should have {size}")
    array = np.frombuffer(bytearray(raw), dtype).reshape(packed.shape)
    if packed.axis is not None:
        along = np.moveaxis(array, packed.axis, 0)
        for row in range(1, len(along)):  # several times faster than accumulating along an inner axis
            along[row] += along[row - 1]
    return array


def _shifted(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    before = (slice(None),) * axis
    return (*before, slice(1, None)), (*before, slice(None, -1))


def _library(codec: str) -> Any:
    if codec not in _MODULES:
        raise ValueError(f"there is no codec {codec!r}; there are {', '.join(map(repr, _MODULES))}")
    try:
        return importlib.import_module(_MODULES[codec])
    except ImportError as error:
        raise MissingExtra(_MODULES[codec].partition(".")[0], "compression") from error


def _compressor(codec: str) -> Callable[[Any], bytes]:
    library = _library(codec)
    if codec == "zstd":
        compress: Callable[[Any], bytes] = library.ZstdCompressor(level=_ZSTD_LEVEL).compress
        return compress
    return lambda raw: bytes(library.compress(memoryview(raw)))


def _decompress(codec: str, data: bytes, size: int) -> bytes:
    """What was compressed, which is expected to have ``size`` bytes: what has more is not expanded."""
    library = _library(codec)
    unreadable: type[Exception] = library.ZstdError if codec == "zstd" else RuntimeError
    try:
        if codec == "zstd":
            claimed = library.frame_content_size(data)  # by which it is expanded, whatever else is asked for
            if claimed != size:
                raise ValueError(f"a compressed array that claims {claimed} bytes and should have {size}")
            return bytes(library.ZstdDecompressor().decompress(data, max_output_size=size))
        return bytes(library.LZ4FrameDecompressor().decompress(data, max_length=size + 1))
    except unreadable as error:
        raise ValueError(f"compressed data that cannot be read: {error}") from error
