"""Payloads: what a node's process unpickles and runs. One for each node, stored once by content.

A payload is a pickle stream and the large buffers (NumPy arrays) that it refers to. Each part is a blob named by its
SHA-256, so nodes that share an array of 10 MB share the file as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cloudpickle

from kourou import errors
from kourou.runtime import absl_flags, context, structure
from kourou.runtime.node import Node

__all__ = ["Blobs", "Payload", "Payloads", "find_unpicklable", "load_payload", "why_not_picklable"]

Blobs = Mapping[str, "bytes | memoryview"]

_SHARED_FROM_BYTES = 64 * 1024  # smaller buffers stay in the stream: a file of their own would cost more than it saves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Payload:
    """The names of a payload's blobs."""

    stream: str
    """SHA-256 of the pickle stream."""
    buffers: tuple[str, ...] = ()
    """SHA-256 of each buffer, in the stream's order."""
    size_bytes: int = 0
    """All parts together."""


class Payloads:
    """Pickles nodes and collects the blobs, each only once."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes | memoryview] = {}
        # By the identity of a buffer's owner, which a blob keeps alive: 500 nodes, one array, one hash.
        self._hashes: dict[int, str] = {}

    def add(self, node: Node) -> Payload:
        """Pickle a node.

        Raises:
            Exception: whatever pickling raised; :func:`find_unpicklable` tells which argument it was.
        """
        raw: list[memoryview] = []

        def take(buffer: pickle.PickleBuffer) -> bool:
            view = buffer.raw()
            if view.nbytes < _SHARED_FROM_BYTES:
                return True
            raw.append(view)
            return False

        stream = io.BytesIO()
        token = context.compiling.set(True)
        try:
            _pickle(node, stream, take)
        finally:
            context.compiling.reset(token)
        data = stream.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        self.blobs.setdefault(digest, data)
        names = tuple(self._add_buffer(view) for view in raw)
        return Payload(stream=digest, buffers=names, size_bytes=len(data) + sum(view.nbytes for view in raw))

    def _add_buffer(self, view: memoryview) -> str:
        key = id(view.obj) if _is_whole(view) else None
        if key in self._hashes:
            return self._hashes[key]
        digest = hashlib.sha256(view).hexdigest()
        if digest not in self.blobs:
            self.blobs[digest] = view
            if key is not None:
                self._hashes[key] = digest
        return digest


def _pickle(value: Any, stream: io.BytesIO, take_buffer: Callable[[pickle.PickleBuffer], bool] | None = None) -> None:
    _Pickler(stream, protocol=5, buffer_callback=take_buffer).dump(value)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    def reducer_override(self, value: Any) -> Any:
        reduced = absl_flags.reduced(value)
        return super().reducer_override(value) if reduced is None else reduced


def _is_whole(view: memoryview) -> bool:
    """Whether a view shows all of its owner, so that the owner's identity tells what it shows."""
    try:
        return memoryview(view.obj).nbytes == view.nbytes
    except (BufferError, TypeError, ValueError):
        return False


def store_blobs(blobs: Blobs, folder: Path) -> None:
    """Write every blob to ``folder`` under its name."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in blobs.items():
        (folder / name).write_bytes(data)


def load_payload(payload: Payload, folder: Path) -> Any:
    """Unpickle a payload; arrays come back writable.

    Raises:
        LaunchError: a blob is not the one that was stored.
    """
    buffers = [bytearray(_blob(folder, name)) for name in payload.buffers]
    return pickle.loads(_blob(folder, payload.stream), buffers=buffers)


def _blob(folder: Path, name: str) -> bytes:
    data = (folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != name:
        raise errors.LaunchError(
            f"{folder / name} is not what the launcher wrote there: its hash is another. Something else has written to "
            "the run's folder, or its file system has lost a part"
        )
    return data


def find_unpicklable(node: Node, error: Exception) -> str:
    """Say in one line which argument of a node, or of its children, cannot be pickled, by its path."""
    arguments = ((member, key, value) for member in node.iterate_family() for key, value in member.arguments().items())
    for member, key, value in arguments:
        if (reason := why_not_picklable(value)) is None:
            continue
        path, leaf, reason = _innermost(key, value, reason)
        return (
            f"{member.name} {path} cannot be pickled: {reason} (it is {_short(leaf)}). Construct it in the node, "
            "for example with lp.Deferred(constructor, ...), or launch with local_mt"
        )
    return f"{node.name} cannot be pickled: {type(error).__name__}: {error}"


def _innermost(key: str, value: Any, reason: str) -> tuple[str, Any, str]:
    for path, leaf in structure.iterate_leaves(value, key):
        if (why := why_not_picklable(leaf)) is not None:
            return path, leaf, why
    return key, value, reason


def why_not_picklable(value: Any) -> str | None:
    """Why a value cannot be pickled; None: it can. Handles are left to compile, which reports them on their own."""
    token = context.compiling.set(True)
    try:
        _pickle(value, io.BytesIO())
    except errors.HandleNotResolved:
        return None  # compile reports handles on their own
    except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return f"{type(error).__name__}: {error}"
    finally:
        context.compiling.reset(token)
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."  # noqa: PLR2004 - one line
