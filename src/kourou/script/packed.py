"""Values and the part of the script that they need, in one piece: for a process that has nothing else of the run."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from kourou.errors import SerializationError
from kourou.script import main_module, unpicklable
from kourou.script.definitions import Collector, Reduce
from kourou.script.snapshot import Pickled, Snapshot
from kourou.shown import described, shown

_THIS_PROCESS = secrets.token_hex(8)  # and its forks


class Packed(NamedTuple):
    """What :func:`pack` makes. Pickled with protocol 5, its buffers can travel out of band."""

    packed_by: str
    """The process whose script it is, which opens it without installing its own script."""
    snapshot: Snapshot
    script_buffers: list[Any]
    setup: Pickled | None
    values: Pickled
    """``imports`` is what it brings along together with what it needs of the script."""

    def open(self) -> tuple[Any, ...]:
        """Make the script this process's ``__main__``, call its setup, and return the values."""
        if self.packed_by != _THIS_PROCESS:
            main_module.install(self.snapshot, self.script_buffers.__getitem__)
        if self.setup is not None:
            main_module.set_up(self.setup)
        values: tuple[Any, ...] = main_module.load(self.values)
        return values


def pack(
    values: Mapping[str, object],
    owner: str,
    *,
    setup: Sequence[Callable[[], object]] = (),
    reduce: Reduce = lambda _: None,
    reducers: Mapping[type, Callable[[Any], Any]] = MappingProxyType({}),
    libraries: Collection[str] = (),
) -> Packed:
    """Pickle values with what they need of the script.

    Args:
        values: what to pickle, by the names that errors call them.
        owner: whose they are, in errors.
        setup: functions that the receiver calls before it unpickles the values.
        reduce: see :class:`~kourou.script.definitions.Collector`.
        reducers: see :class:`~kourou.script.definitions.Collector`.
        libraries: of these, the values say which they bring along.

    Raises:
        SerializationError: a value, or a global of the script, cannot be pickled; it says which.
    """
    collector = Collector(reduce, reducers, libraries)
    try:
        before = collector.add(tuple(setup), f"the setup of {owner}") if setup else None
        pickled = collector.add(tuple(values.values()), owner)
    except Exception as error:
        named = {"setup": tuple(setup), **values}
        found = (unpicklable.innermost(name, value, collector.why_not) for name, value in named.items())
        path, culprit, reason = next(filter(None, found), ("", values, error))
        raise SerializationError(
            f"{owner}: {path} cannot be pickled: {described(reason)} (it is {shown(culprit)})"
        ) from error
    snapshot, buffers = collector.finish()
    sent = _to_send(pickled)._replace(imports=collector.imports(pickled))
    return Packed(_THIS_PROCESS, snapshot, _out_of_band(buffers), before and _to_send(before), sent)


def _to_send(pickled: Pickled) -> Pickled:
    return pickled._replace(buffers=_out_of_band(pickled.buffers))


def _out_of_band(buffers: Sequence[Any]) -> list[pickle.PickleBuffer]:
    return [pickle.PickleBuffer(buffer) for buffer in buffers]
