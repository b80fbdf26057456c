"""Pictures as PNG files in a run's folder; those of arrays are made here, which takes no package."""

from __future__ import annotations

import os
import struct
import urllib.parse
import zlib
from pathlib import Path
from typing import Any

from kourou.shown import shown

IMAGES = "images"
"""The folder, in a run's."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → PNG's number for them
_BYTE = 8  # bits of a channel
_LONGEST_NAME = 100


def save(folder: Path, name: str, step: str, node: str, image: Any) -> str:
    """Write a picture below a run's folder; its path there.

    Raises:
        TypeError, ValueError: it is no picture.
        OSError: it cannot be read, or written.
    """
    *place, last = (urllib.parse.quote(part, safe=" ")[:_LONGEST_NAME] for part in (node, name or "image", step))
    file = Path(IMAGES, *(part.replace(".", "%2E") for part in place if part), f"{last}.png")
    whole = folder / file
    draft = whole.with_suffix(f".{os.getpid()}")
    whole.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(draft, image)
        draft.replace(whole)
    finally:
        draft.unlink(missing_ok=True)
    return file.as_posix()


def _write(path: Path, image: Any) -> None:
    if isinstance(image, (str, os.PathLike)):
        with Path(image).open("rb") as file:
            if file.read(len(_SIGNATURE)) != _SIGNATURE:
                raise ValueError(f"{os.fspath(image)} is no PNG file")
        import shutil  # noqa: PLC0415 - nodes that log no pictures need none of it

        shutil.copyfile(image, path)
    elif hasattr(image, "savefig"):
        image.savefig(path, format="png")
    elif hasattr(image, "save"):
        image.save(path, format="PNG")
    elif hasattr(image, "shape"):
        path.write_bytes(_png(image))
    else:
        raise TypeError(f"a picture is an array, one of Pillow or matplotlib, or a PNG file, got {shown(image)}")


def _png(image: Any) -> bytes:
    import numpy as np  # noqa: PLC0415 - only who has arrays needs it

    if hasattr(image, "detach"):  # torch's
        image = image.detach().cpu()
    array = np.asarray(image)
    if array.dtype.kind == "f":
        array = np.clip(np.nan_to_num(array) * 255.0, 0, 255)
    if array.dtype.kind == "b":
        array = array * 255
    array = np.ascontiguousarray(array, np.uint8)
    if array.ndim == 2:  # noqa: PLR2004 - height and width
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in _COLOUR_TYPES or 0 in array.shape:  # noqa: PLR2004 - and channels
        raise ValueError(f"a picture has the shape (height, width) or (height, width, 1 to 4), got {array.shape}")
    height, width, channels = array.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter's number: 0, none
    lines[:, 1:] = array.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, _BYTE, _COLOUR_TYPES[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
