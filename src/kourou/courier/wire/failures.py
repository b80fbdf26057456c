"""Exceptions that cross: what a handler raised becomes what the caller catches.

The caller gets an object that is an instance of the original class and of ``RemoteError``. Its ``__init__`` is not
called again (it may want other arguments, or have side effects); arguments and attributes are carried over.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import os
import pickle
import reprlib
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from kourou.courier.wire import codec
from kourou.courier.wire.frames import payload_size
from kourou.errors import RemoteError, RpcError, SerializationError
from kourou.tracebacks import format_failure


class Failure(NamedTuple):
    """An exception as data. The parts that may fail to unpickle are pickled on their own, so none takes the rest along.

    ``raised_by_handler`` is False for what kourou itself has to say about the call (unknown method, overload, …).
    ``factory`` is the method of the class that makes it of the arguments; empty where no code of the class is needed.
    """

    type_name: str
    type_pickle: bytes
    args_pickle: bytes
    state_pickle: bytes
    message: str
    traceback: str
    raised_by_handler: bool
    node: str
    host: str
    method: str
    factory: str = ""


class RemoteTraceback(Exception):
    """Shown by Python above the exception it belongs to, as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


_MAX_CHARACTERS = 64 << 10  # of a message, and of a traceback: an error is there to be read
_MAX_BYTES = 1 << 20  # of its arguments, and of its attributes, once they are pickled
_CALL = "__call__"  # the factory of classes that have to be called
_ELSEWHERE = frozenset({"obj", "object", "exceptions"})  # fields of built-in classes: also arguments, or of any size


def describe(error: BaseException, *, node: str, method: str, raised_by_handler: bool = True) -> Failure:
    """The exception as data, whatever it is."""
    shown = _shortened(_traceback(error)) if raised_by_handler or error.__cause__ else ""
    kind = type(error)
    text_only = Failure(
        type_name=f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        type_pickle=b"",
        args_pickle=b"",
        state_pickle=b"",
        message=_shortened(_text(error)),
        traceback=shown,
        raised_by_handler=raised_by_handler,
        node=node,
        host=os.uname().nodename,
        method=method,
    )
    try:
        return _with_parts(text_only, error)
    except Exception:  # noqa: BLE001 - any class may misbehave when it is looked at; the text must arrive all the same
        return text_only


def _with_parts(failure: Failure, error: BaseException) -> Failure:
    earlier: Failure | None = getattr(error, "_kourou_failure", None)
    if earlier is not None:  # it came from another node; what is not to be had here may be at the next one
        here = {name: getattr(failure, name) for name in ("traceback", "raised_by_handler", "node", "host", "method")}
        return earlier._replace(**here)
    factory, args = _recipe(error)
    state = dict(_state(error))
    return failure._replace(
        type_pickle=_pickled(type(error)),
        args_pickle=_pickled(args) or _pickled(tuple(map(_portable, args))),
        state_pickle=_pickled(state) or _pickled({key: _portable(value) for key, value in state.items()}),
        factory=factory,
    )


def rebuild(failure: Failure) -> Exception:
    """The exception that a caller raises. Whatever goes wrong with its class or its parts, it keeps its text."""
    kind = _unpickled(failure.type_pickle, None)
    # SystemExit and KeyboardInterrupt keep their name but not their class: they would end the caller as well.
    known = isinstance(kind, type) and issubclass(kind, Exception)
    if not failure.raised_by_handler and known and issubclass(kind, RpcError):
        error: Exception = _instance(kind, failure) or RpcError(failure.message)
        if failure.node and failure.node not in str(error):
            error.args = (f"{failure.node}: {error.args[0]}", *error.args[1:])
        if failure.traceback:
            error.__cause__ = RemoteTraceback(failure.traceback)
        return error
    error = (_instance(_remote_class(kind), failure) if known else None) or _unknown(failure)
    where = f"{failure.method} of {failure.node} (on {failure.host}) raised"
    _fill(error, {"__cause__": RemoteTraceback(f"{where}:\n{failure.traceback}")})
    return error


# -- taking apart -----------------------------------------------------------------------------------------------------


def _recipe(error: BaseException) -> tuple[str, tuple[Any, ...]]:
    """What an instance is made of: the factory that its class needs, if any, and arguments."""
    base = _made_by(type(error))
    with contextlib.suppress(Exception):
        if _is_builtin(base):
            args = base.__reduce__(error)[1]  # knows more than ``args`` does, such as the file of an OSError
            return "", tuple(_carried(value) for value in args)
        recipe: Any = error.__reduce_ex__(2)
        make, args = recipe[:2]
        if make is type(error):
            return _CALL, args
        if getattr(make, "__self__", None) is type(error):
            return make.__name__, args
    return "", error.args


def _made_by(kind: type) -> Any:
    """The class made in C that ``kind`` has its instances from."""
    return next(
        base
        for base in kind.__mro__
        if _is_builtin(base) or isinstance(vars(base).get("__new__"), types.BuiltinMethodType)
    )


def _is_builtin(kind: type) -> bool:
    return getattr(builtins, kind.__name__, None) is kind


def _state(error: BaseException) -> Iterator[tuple[str, Any]]:
    """The attributes, those included that are fields and no part of the ``__dict__``."""
    for kind in type(error).__mro__:
        for name, field in vars(kind).items():
            if isinstance(field, types.MemberDescriptorType) and not name.startswith("__") and name not in _ELSEWHERE:
                value = getattr(error, name, None)
                if value is not None:
                    yield name, value
    yield from ((name, value) for name, value in vars(error).items() if name != "__notes__")


class _Carried:
    """An exception within another one: what arrives is what ``rebuild`` makes of it."""

    def __init__(self, error: BaseException) -> None:
        self._failure = describe(error, node="", method="")

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self._failure,)


def _carried(value: Any) -> Any:
    """The members of a group of exceptions, each in a way that arrives; anything else as it is."""
    if isinstance(value, list | tuple) and value and all(isinstance(one, BaseException) for one in value):
        return [_Carried(one) for one in value]
    return value


# -- putting together -------------------------------------------------------------------------------------------------


def _instance(kind: type[Exception] | None, failure: Failure) -> Any:
    """An instance made without its class' ``__init__``, but with what a class made in C keeps. None if that fails."""
    if kind is None:
        return None
    try:
        args = _unpickled(failure.args_pickle, (failure.message,))
        if failure.factory:
            error = (kind if failure.factory == _CALL else getattr(kind, failure.factory))(*args)
        else:
            error = _made(kind, args)
        _fill(error, _ours(failure) if issubclass(kind, RemoteError) else {})
        _fill(error, _unpickled(failure.state_pickle, {}))
    except Exception:  # noqa: BLE001 - any class may misbehave when it is made
        return None
    return error if isinstance(error, kind) else None


def _made(kind: type[Exception], args: tuple[Any, ...]) -> Any:
    base = _made_by(kind)
    try:
        error = base.__new__(kind, *args)
        base.__init__(error, *args)
    except Exception:  # noqa: BLE001 - arguments that the class made in C does not take
        error = base.__new__(kind)
        error.args = args
    return error


def _fill(error: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        with contextlib.suppress(AttributeError, TypeError):  # a field or a property that can only be read
            object.__setattr__(error, name, value)


def _ours(failure: Failure) -> dict[str, Any]:
    """What every remote error has. The user's own attributes of such names win."""
    return {
        "remote_type": failure.type_name,
        "remote_traceback": failure.traceback,
        "node": failure.node,
        "host": failure.host,
        "method": failure.method,
        "_kourou_failure": failure,  # our own mark, so that pickling it again loses nothing
    }


def _reduce(error: Any) -> tuple[Any, ...]:
    return rebuild, (error._kourou_failure,)  # noqa: SLF001


_AS_RECEIVED = {
    "__init__": Exception.__init__,
    "__reduce__": _reduce,
    "__reduce_ex__": lambda self, _protocol: _reduce(self),
    "__str__": lambda self: self._kourou_failure.message,  # as it was there, whatever was lost on the way
}


@functools.lru_cache(maxsize=256)
def _remote_class(kind: type[Exception]) -> type[Exception] | None:
    """The class of what a caller catches in place of ``kind``; None if there cannot be one."""
    # ``kind`` comes first: it says which class made in C the instances come from.
    bases: tuple[type, ...] = (kind, RemoteError)
    if issubclass(kind, RemoteError) or issubclass(RemoteError, kind):
        bases = (kind if issubclass(kind, RemoteError) else RemoteError,)
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    try:
        return type(kind.__name__, bases, {**_AS_RECEIVED, **named})
    except Exception:  # noqa: BLE001 - it cannot be derived from, or not together with another; or objects to it
        return None


def _unknown(failure: Failure) -> RemoteError:
    """Stands for an exception whose class is not to be had here, or cannot be made of its parts."""
    error = RemoteError(f"{failure.type_name}: {failure.message}")
    _fill(error, _ours(failure))
    return error


# -- parts ------------------------------------------------------------------------------------------------------------


def _pickled(value: object) -> bytes:
    """The value in one piece, or nothing when it cannot be pickled, or is too large."""
    try:
        body, buffers = codec.encode(value, "an exception")
    except SerializationError:
        return b""
    if payload_size(body, buffers) > _MAX_BYTES:
        return b""
    joined = b"".join(body) if isinstance(body, tuple) else bytes(body)
    return pickle.dumps((joined, [bytearray(buffer) for buffer in buffers]))


def _unpickled(data: bytes, default: Any) -> Any:
    if not data:
        return default
    try:
        body, buffers = pickle.loads(data)
        return codec.decode(body, buffers)
    except Exception:  # noqa: BLE001 - any class may misbehave when it is imported or rebuilt
        return default


def _portable(value: object) -> object:
    """The value where it can be pickled and is not too large; else as text."""
    if isinstance(value, str):
        return _shortened(value)
    return value if _pickled(value) else _text(value)


_repr = reprlib.Repr()
_repr.maxother = _repr.maxstring = 4 << 10
_repr.maxlist = _repr.maxtuple = _repr.maxdict = 100


def _text(value: object) -> str:
    try:
        return str(value) if isinstance(value, BaseException) else _repr.repr(value)
    except BaseException:  # noqa: BLE001 - a broken __str__ must not hide the error it belongs to
        return f"<{type(value).__name__} that cannot be shown>"


def _shortened(text: str) -> str:
    """The text without its middle, if it is too long."""
    left_out = len(text) - _MAX_CHARACTERS
    if left_out <= 0:
        return text
    half = _MAX_CHARACTERS // 2
    return f"{text[:half]}\n[… {left_out} characters were left out …]\n{text[-half:]}"


def _traceback(error: BaseException) -> str:
    try:
        return format_failure(error)
    except BaseException:  # noqa: BLE001 - a broken __str__ or __cause__
        return f"{type(error).__qualname__}: {_text(error)}\n"
