"""The publisher: what a learner holds."""

from __future__ import annotations

import contextlib
import operator
import os
import platform
import threading
from typing import Any

from kourou.cpython import imported
from kourou.errors import NodeRestarted, VersionError, WeightsError
from kourou.nested import map_leaves
from kourou.shown import shown
from kourou.weights.attaching import Way
from kourou.weights.remote import RemoteWriter
from kourou.weights.slot_layout import Contents
from kourou.weights.transport import Carried, Transport
from kourou.weights.writing import BoardWriter


class Publisher:
    """Publishes versions of one name. Any number of threads may use it; processes that publish one name take turns.

    Made by ``weights.publisher()``; it connects when it is first used, and outlives a restart of the weights' node:
    the next version is published on the new one.

    Args:
        way: to the weights.
        transport: brings the weights themselves to those who read; None: they are copied to where all find them.
    """

    def __init__(self, way: Way, transport: Transport | None = None) -> None:
        self._way = way
        self._transport = transport
        self._last: int | None = None  # that this publisher has published; readers take no version twice
        self._lock = threading.Lock()
        self._writer: BoardWriter | RemoteWriter | None = None

    def __repr__(self) -> str:
        return f"<publisher of the weights {self._way.name!r} of {self._way.server}>"

    def publish(
        self, weights: object, version: int | None = None, *, cast: str | None = None, wait_s: float = 0.0
    ) -> bool:
        """Copy weights to where all readers find them. When it returns, they may be changed again.

        It never waits for readers, unless ``wait_s`` says so: where they hold all older versions that there is memory
        for, this version is skipped, a warning says who holds them, and readers count it as one that they lag behind.

        Args:
            weights: a state dict, a nested structure of arrays and tensors, or whatever can be pickled.
            version: an integer above those before, such as the learner's step; None counts on from the last.
            cast: ``bfloat16`` or ``float16``: publish wider floating-point arrays and tensors as that.
            wait_s: how long to wait for a reader to let go of an old version, where all are held.

        Returns:
            Whether readers can have it; False if it was skipped.

        Raises:
            VersionError: the version is not above the last, or no whole number of 63 bits.
            WeightsError: there is nothing to be cast.
            SerializationError: a part of the weights cannot be pickled; names it.
            NodeExited: the weights' node has ended for good.
        """
        version = None if version is None else _whole(version)
        if cast is not None:
            weights = cast_floats(weights, cast)
        offer = None if self._transport is None else self._transport.offer(weights)
        contents = Contents.of(weights if self._transport is None else Carried(offer=offer))
        publisher = f"{self._way.caller or 'a publisher'} (pid {os.getpid()} on {platform.node()})"
        while True:
            writer = self._writer = self._writer or self._way.writer()
            try:
                written = writer.write(contents, version, publisher, wait_s, above=self._last)
            except (FileNotFoundError, NodeRestarted):  # what was published there is gone with it
                self._writer = None
                continue
            if written is None:
                return False
            with self._lock:
                self._last = written if self._last is None else max(self._last, written)
            if self._transport is not None:
                self._transport.send(weights, offer)
            return True

    def last_version(self) -> int | None:
        """The version that was published last, by whomever; None before the first. A restarted learner goes on there.

        Raises:
            NodeExited: the weights' node has ended for good.
        """
        page = self._way.reader().page
        return page.offered_version if page.offered else None


def _whole(version: object) -> int:
    """A version as the board holds it; one-element arrays of integers, such as a step that JAX counts, are among them.

    Raises:
        VersionError: it is none.
    """
    with contextlib.suppress(TypeError):
        number = operator.index(version)  # type: ignore[arg-type]  # which is what is found out
        if abs(number) < 1 << 63:
            return number
    raise VersionError(f"a version is a whole number below 2**63, such as the learner's step; not {shown(version)}")


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
