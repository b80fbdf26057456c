"""Python values as a pickle stream and the buffers that stay outside of it.

What goes in is a snapshot in name only: buffers alias the sender's arrays until a lane has copied them, once,
to where the receiver reads them. What comes out is the receiver's own: arrays are writable even when the
sender's were not.

Values are pickled by reference to importable code where that works (pickle), and by value where it cannot
(cloudpickle): functions without a name, local classes, and what lives in ``__main__``, unless all whom this process
speaks with have it as well (``kourou.script``).
"""

from __future__ import annotations

import copyreg
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from kourou.courier.wire.frames import INLINE_BODY_BYTES, MOST_BUFFERS, Body, Buffer
from kourou.cpython import imported
from kourou.errors import SerializationError, StopRequested
from kourou.script import names
from kourou.shown import described, shown

_PROTOCOL = 5
_IN_BAND_BYTES = 8 << 10  # a buffer below this size is cheaper inside the pickle stream than beside it

_PLAIN = frozenset({type(None), bool, int, float, str})
_Reducer = Callable[[Any], Any]


class Payload(NamedTuple):
    """An encoded value."""

    body: Body
    buffers: Sequence[Buffer] = ()


EMPTY_CALL = pickle.dumps(((), {}), _PROTOCOL)
_EMPTY = Payload(EMPTY_CALL)
_NONE = Payload(pickle.dumps(None, _PROTOCOL))
_MAIN = b"_main__"  # __main__, or __mp_main__


def encode_call(args: tuple[Any, ...], kwargs: dict[str, Any], method: str) -> Payload:
    """The arguments of a call.

    Raises:
        SerializationError: an argument cannot be pickled; names it by its path, like ``step args[0]['env']``.
    """
    if not kwargs:
        if not args:
            return _EMPTY
        if len(args) == 1 and _is_small(args[0]):
            return Payload(pickle.dumps((args, kwargs), _PROTOCOL))
    try:
        return _encode((args, kwargs))
    except BaseException as error:
        _let_pass(error)
        path, culprit = _culprit({"args": args, **{f"args[{shown(key)}]": value for key, value in kwargs.items()}})
        raise SerializationError(f"{method} {path}: {_kind(culprit)} cannot be sent: {described(error)}") from error


def encode(value: object, what: str) -> Payload:
    """Any value; ``what`` says in errors where it comes from.

    Raises:
        SerializationError: it cannot be pickled.
    """
    if value is None:
        return _NONE
    if _is_small(value):
        return Payload(pickle.dumps(value, _PROTOCOL))
    try:
        return _encode(value)
    except BaseException as error:
        _let_pass(error)
        path, culprit = _culprit({"": value})
        raise SerializationError(f"{what} result{path}: {_kind(culprit)} cannot be sent: {described(error)}") from error


def _is_small(value: object) -> bool:
    """Whether a value is pickled as it is: nothing in it needs reducers or memory of its own."""
    return type(value) in _PLAIN and (not isinstance(value, str) or len(value) < _IN_BAND_BYTES)


def decode(body: Body, buffers: Sequence[Buffer] = ()) -> Any:
    """The value that was encoded. It may use the memory of ``buffers`` for as long as it lives.

    Raises:
        SerializationError: the value cannot be rebuilt here, for example because a module is missing.
    """
    stream = b"".join(body) if isinstance(body, tuple) else body
    if stream == _NONE.body:
        return None
    names.wait_until_loaded()
    try:
        return pickle.loads(stream, buffers=buffers)
    except BaseException as error:
        _let_pass(error)
        raise SerializationError(f"what arrived cannot be unpickled here: {described(error)}") from error


def decode_call(body: Body, buffers: Sequence[Buffer]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that ``encode_call`` encoded.

    Raises:
        SerializationError: they cannot be rebuilt here, or are not arguments.
    """
    if body == EMPTY_CALL:
        return (), {}
    call = decode(body, buffers)
    try:
        args, kwargs = call
    except (TypeError, ValueError):
        args = kwargs = None
    if not isinstance(args, tuple) or not isinstance(kwargs, dict):
        raise SerializationError("what arrived are not the arguments of a call")
    return args, kwargs


def _let_pass(error: BaseException) -> None:
    """Raise what is meant for this thread: a stop, or Ctrl-C. A SystemExit that a value raises must not end it."""
    ctrl_c = isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()
    if ctrl_c or isinstance(error, StopRequested):
        raise error


def _encode(value: object) -> Payload:
    buffers: list[Buffer] = []
    body = _dump(value, buffers)
    if len(buffers) >= MOST_BUFFERS:
        raise ValueError(f"{len(buffers)} large arrays; fewer than {MOST_BUFFERS} fit into a message: stack them")
    return _payload(body, buffers)


def _all_have(pickled: Iterable[tuple[int, Any]]) -> bool:
    """Whether what of a pickler's memo went as a name in ``__main__`` is what the others have there."""
    definitions = [part for _, part in pickled if isinstance(part, names.DEFINITIONS)]
    return all(names.is_shared(part) for part in definitions if part.__module__ in names.MODULES)


def _payload(body: list[Buffer], buffers: list[Buffer]) -> Payload:
    if len(body) == 1:
        return Payload(body[0], buffers)
    if sum(map(len, body)) <= INLINE_BODY_BYTES:
        return Payload(b"".join(body), buffers)
    return Payload(tuple(body), buffers)


class _Pieces:
    """A file that keeps what is written. The pickler hands it large ``bytes`` objects as they are, without a copy."""

    __slots__ = ("write",)

    def __init__(self, pieces: list[Buffer]) -> None:
        self.write = pieces.append


def _dump(value: object, buffers: list[Buffer], *, by_value: bool = False) -> list[Buffer]:
    """The pickle stream of a value, in pieces; its buffers are added to ``buffers``.

    Args:
        value: what to pickle.
        buffers: takes the buffers that stay outside of the stream.
        by_value: use cloudpickle at once; else only for what pickle refuses, or others do not have under its name.
    """
    pieces: list[Buffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if len(raw) < _IN_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    if by_value:
        pickler = _cloud_pickler(_Pieces(pieces), keep)
    else:
        pickler = pickle.Pickler(_Pieces(pieces), _PROTOCOL, buffer_callback=keep)
        pickler.dispatch_table = _dispatch_table()
    try:
        pickler.dump(value)
        if by_value or not any(_MAIN in piece for piece in pieces) or _all_have(pickler.memo.copy().values()):
            return pieces
    except (pickle.PicklingError, AttributeError, TypeError):
        if by_value:
            raise
    buffers.clear()
    return _dump(value, buffers, by_value=True)


def _cloud_pickler(file: _Pieces, keep: Callable[[pickle.PickleBuffer], bool]) -> pickle.Pickler:
    from kourou.script.pickling import ByValuePickler  # noqa: PLC0415 - imports cloudpickle, which is slow

    kind: Any = ByValuePickler
    pickler: pickle.Pickler = kind.__new__(kind)
    pickler.dispatch_table = {**kind.dispatch_table, **reducers()}  # read once, by __init__, so it has to be there
    kind.__init__(pickler, file, _PROTOCOL, buffer_callback=keep)
    return pickler


class _Table(NamedTuple):
    """A dispatch table for pickle, and what it was made from."""

    registered: Mapping[type, _Reducer]
    libraries: tuple[bool, ...]
    reducers: dict[type, _Reducer]


_LIBRARIES = ("multiprocessing.connection", "numpy", "torch", "jax")
_table: _Table | None = None


def _dispatch_table() -> dict[type, _Reducer]:
    """What ``copyreg`` knows and our own reducers; made anew only when either has changed."""
    global _table  # noqa: PLW0603 - a cache; whichever thread writes last is right
    table, loaded = _table, sys.modules
    libraries = "multiprocessing.connection" in loaded, "numpy" in loaded, "torch" in loaded, "jax" in loaded
    if table is None or table.libraries != libraries or table.registered != copyreg.dispatch_table:
        registered = dict(copyreg.dispatch_table)
        all_ready = all(imported(name) is loaded.get(name) for name in _LIBRARIES)  # none is just being imported
        table = _Table(registered, libraries, {**registered, **reducers()})
        if all_ready:
            _table = table
    return table.reducers


def reducers() -> Mapping[type, _Reducer]:
    """Our own reducers for the libraries that are loaded; a library that is not loaded made none of the values."""
    known: dict[type, _Reducer] = {memoryview: _reduce_memoryview}
    if (connections := imported("multiprocessing.connection")) is not None:
        known[connections.Connection] = _refuse_pipe
    if imported("numpy") is not None:
        from kourou.courier.wire import codec_numpy  # noqa: PLC0415 - imports NumPy

        known.update(codec_numpy.REDUCERS)
    if imported("torch") is not None:
        from kourou.courier.wire import codec_torch  # noqa: PLC0415 - imports torch

        known.update(codec_torch.REDUCERS)
    if imported("jax") is not None:
        from kourou.courier.wire import codec_jax  # noqa: PLC0415 - imports JAX

        known.update(codec_jax.REDUCERS)
    return known


def _refuse_pipe(_: object) -> NoReturn:
    raise pickle.PicklingError(
        "the end of a pipe of multiprocessing would arrive as a number without a pipe; let nodes call each other"
    )


def _reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    flat = view if view.c_contiguous else memoryview(view.tobytes())
    return _rebuild_memoryview, (pickle.PickleBuffer(flat), view.format, view.shape)


def _rebuild_memoryview(buffer: Buffer, form: Any, shape: tuple[int, ...]) -> memoryview:
    owned = memoryview(buffer)
    if owned.readonly:
        owned = memoryview(bytearray(owned))
    return owned.cast(form, shape) if 0 not in shape else owned


def _culprit(named: Mapping[str, object]) -> tuple[str, object]:
    """The innermost part that cannot be pickled by itself, and the path to it."""
    from kourou.script.unpicklable import innermost  # noqa: PLC0415 - for errors only

    for path, value in named.items():
        found = innermost(path, value, _why_not)
        if found is not None:
            return found[:2]
    path, value = next(iter(named.items()))
    return path, value


def _why_not(value: object) -> BaseException | None:
    try:
        _encode(value)
    except BaseException as error:  # noqa: BLE001 - whatever it raised, it is what we look for
        return error
    return None


def _kind(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
