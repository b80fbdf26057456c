"""Payloads: what a node's process unpickles and runs. One for each node, stored once by content.

A payload is a pickle stream and the large buffers (NumPy arrays) that it refers to; all payloads of a program refer to
one snapshot of the user's script. Each part is a blob named by its SHA-256, so nodes that share an array of 10 MB share
the file as well.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import mmap
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.courier.wire import codec
from kourou.cpython import imported
from kourou.runtime.context import context
from kourou.runtime.graph.node import Node
from kourou.runtime.model.process import Blobs, Payload
from kourou.runtime.plan import absl_flags
from kourou.runtime.plan.preloading import FORKABLE
from kourou.script import main_module, unpicklable
from kourou.script.definitions import Collector
from kourou.script.names import Scope
from kourou.script.snapshot import Imports, Pickled, Snapshot
from kourou.shown import described, shown


class Payloads:
    """Pickles nodes and collects the blobs, each only once; :meth:`finish` adds the script that they share.

    Args:
        one_host: the nodes are processes of this host.
        like: what others have of the script already: these nodes have all of it as well.
    """

    def __init__(self, *, one_host: bool = True, like: Scope | None = None) -> None:
        self.blobs: dict[str, bytes | memoryview] = {}
        self._collector = _collector(one_host=one_host)
        if isinstance(like, Collector):
            self._collector.need_as(like)
        self._script: tuple[str, tuple[str, ...]] | None = None
        self._nodes: dict[str, Pickled] = {}  # by the stream's hash
        # By the identity of a buffer's owner, which a blob keeps alive: 500 nodes, one array, one hash.
        self._hashes: dict[int, str] = {}

    @property
    def scope(self) -> Collector:
        """What the program's processes have of the script, once all is finished."""
        return self._collector

    def add(self, node: Node, setup: Sequence[Callable[[], object]] = ()) -> Payload:
        """Pickle a node, and what its process calls before it unpickles it.

        Raises:
            Exception: whatever pickling raised; :meth:`find_unpicklable` tells which argument it was.
        """
        owner = str(node.name)
        token = context.compiling.set(True)
        try:
            parts = [self._collector.add(node, owner)]
            if setup:
                parts.insert(0, self._collector.add(tuple(setup), f"the setup of {owner}"))
        finally:
            context.compiling.reset(token)
        buffers = [view for part in parts for view in part.buffers]
        data = pickle.dumps([(part.stream, part.needs, len(part.buffers)) for part in parts], 5)
        stream = self._add_blob(data)
        # A setup comes first, perhaps because what it sets has to be there before anything is imported.
        family = tuple(node.iterate_family())
        promised = [handle for member in family for handle in member.input_handles]
        own = {
            library
            for one in [*(each.imports for each in family), *(each.imports for each in promised)]
            for library in one
        }
        known = parts[-1]._replace(imports=parts[-1].imports.union([Imports(at_once=FORKABLE & own)]))
        self._nodes[stream] = Pickled(b"", (), []) if setup else known
        return Payload(
            stream=stream,
            buffers=tuple(map(self._add_buffer, buffers)),
            size_bytes=len(data) + sum(view.nbytes for view in buffers),
        )

    def finish(self, payload: Payload) -> Payload:
        """A payload, with the script that all of them need.

        Raises:
            SerializationError: globals of the script cannot be pickled; one in each line.
        """
        if self._script is None:
            snapshot, buffers = self._collector.finish()
            data = pickle.dumps(snapshot, 5)
            self._script = self._add_blob(data), tuple(map(self._add_buffer, buffers))
        script, script_buffers = self._script
        return dataclasses.replace(payload, script=script, script_buffers=script_buffers)

    def imports(self, payload: Payload) -> frozenset[str]:
        """The libraries that can be forked, and that unpickling the node imports anyway, or its first code."""
        return self._collector.imports(self._nodes[payload.stream]).libraries

    def find_unpicklable(self, node: Node, error: Exception) -> str:
        """Say in one line which argument of a node, or of its children, cannot be pickled, by its path."""
        for member in node.iterate_family():
            for key, value in member.arguments().items():
                found = unpicklable.innermost(key, value, functools.partial(_why_not, self._collector))
                if found is not None:
                    path, part, reason = found
                    return (
                        f"{member.name} {path} cannot be pickled: {described(reason)} (it is "
                        f"{shown(part)}). Construct it in the node, for example with lp.Deferred(constructor, "
                        "...), or launch with local_mt"
                    )
        return f"{node.name} cannot be pickled: {described(error)}"

    def _add_blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs.setdefault(digest, data)
        return digest

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


def _is_whole(view: memoryview) -> bool:
    """Whether a view shows all of its owner, so that the owner's identity tells what it shows."""
    try:
        return memoryview(view.obj).nbytes == view.nbytes
    except (BufferError, TypeError, ValueError):
        return False


def store_blobs(blobs: Blobs, folder: Path) -> None:
    """Write every blob to ``folder`` under its name; one that is there stays as it is: nodes may have mapped it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in blobs.items():
        if not (folder / name).exists():
            draft = folder / f".{name}"
            draft.write_bytes(data)
            draft.replace(folder / name)


def script_of(payload: Payload, folder: str | os.PathLike[str]) -> tuple[Snapshot, main_module.Buffers]:
    """The script that a payload belongs to, to be installed.

    Raises:
        LaunchError: a blob is not the one that was stored.
    """
    return pickle.loads(_blob(folder, payload.script)), functools.partial(_blob_at, folder, payload.script_buffers)


def load_payload(payload: Payload, folder: str | os.PathLike[str]) -> Any:
    """Call a payload's setup, and unpickle its node; arrays come back writable.

    Raises:
        LaunchError: a blob is not the one that was stored.
    """
    buffers = [_blob(folder, name) for name in payload.buffers]
    *setup, node = (
        Pickled(stream, needs, [buffers.pop(0) for _ in range(count)])
        for stream, needs, count in pickle.loads(_blob(folder, payload.stream))
    )
    for functions in setup:
        main_module.set_up(functions)
    return main_module.load(node)


def _blob_at(folder: str | os.PathLike[str], blobs: Sequence[str], place: int) -> mmap.mmap:
    return _blob(folder, blobs[place])


def _blob(folder: str | os.PathLike[str], name: str) -> mmap.mmap:
    """A blob's bytes: shared with all who read it, until they are written to."""
    path = f"{folder}/{name}"  # each node reads some, and need not touch all of pathlib for that
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(descriptor)
    if hashlib.sha256(data).hexdigest() != name:
        raise errors.LaunchError(
            f"{path} is not what the launcher wrote there: its hash is another. Something else has written to "
            "the run's folder, or its file system has lost a part"
        )
    return data


def why_not_picklable(value: Any) -> str | None:
    """Why a value cannot be pickled; None: it can. Handles are left to compile, which reports them on their own."""
    error = _why_not(_collector(), value)
    return None if error is None else described(error)


def _why_not(collector: Collector, value: Any) -> Exception | None:
    token = context.compiling.set(True)
    try:
        error = collector.why_not(value)
    finally:
        context.compiling.reset(token)
    return None if isinstance(error, errors.HandleNotResolved) else error


def _collector(*, one_host: bool = True) -> Collector:
    if imported("torch") is None:
        return Collector(absl_flags.reduced, codec.reducers(), FORKABLE)
    from kourou.runtime.plan import shared_tensors  # noqa: PLC0415 - imports torch

    reducers = {**codec.reducers(), **shared_tensors.reducers(one_host=one_host)}
    return Collector(absl_flags.reduced, reducers, FORKABLE)
