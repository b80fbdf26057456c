"""Exceptions that cross: what a handler raised becomes what the caller catches.

The caller gets an object that is an instance of the original class and of ``RemoteError``. Its ``__init__`` is not
called again (it may want other arguments, or have side effects); arguments and attributes are carried over.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import traceback
from typing import Any, NamedTuple

from kourou.courier import codec
from kourou.errors import RemoteError, RpcError, SerializationError

__all__ = ["Failure", "describe", "rebuild"]


class Failure(NamedTuple):
    """An exception as data. The parts that may fail to unpickle are pickled on their own, so none takes the rest along.

    ``raised_by_handler`` is False for what kourou itself has to say about the call (unknown method, overload, …).
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


class RemoteTraceback(Exception):
    """Shown by Python above the exception it belongs to, as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def describe(error: BaseException, *, node: str, method: str, raised_by_handler: bool = True) -> Failure:
    """The exception as data, whatever it is."""
    kind = getattr(type(error), "_kourou_original", type(error))
    attributes = {key: value for key, value in vars(error).items() if key not in _OWN_ATTRIBUTES}
    return Failure(
        type_name=f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        type_pickle=_pickled(kind),
        args_pickle=_pickled(error.args) or _pickled(tuple(map(_portable, error.args))),
        state_pickle=_pickled(attributes) or _pickled({key: _portable(value) for key, value in attributes.items()}),
        message=_text(error),
        traceback=_traceback(error) if raised_by_handler or error.__cause__ else "",
        raised_by_handler=raised_by_handler,
        node=node,
        host=os.uname().nodename,
        method=method,
    )


def rebuild(failure: Failure) -> Exception:
    """The exception that a caller raises."""
    kind = _unpickled(failure.type_pickle, None)
    known = isinstance(kind, type) and issubclass(kind, BaseException)
    if not failure.raised_by_handler and known and issubclass(kind, RpcError):
        error: Exception = _instance(kind, failure)
        if failure.traceback:
            error.__cause__ = RemoteTraceback(failure.traceback)
        return error
    # SystemExit and KeyboardInterrupt keep their name but not their class: they would end the caller as well.
    if known and issubclass(kind, Exception) and _unpickled(failure.args_pickle, None) is not None:
        error = _instance(_remote_class(kind), failure)
    else:
        error = RemoteError(f"{failure.type_name}: {failure.message}")
    remote: Any = error
    remote.remote_type = failure.type_name
    remote.remote_traceback = failure.traceback
    remote.node, remote.host, remote.method = failure.node, failure.host, failure.method
    remote._kourou_failure = failure  # noqa: SLF001 - our own mark, so that pickling it again loses nothing
    where = f"{failure.method} of {failure.node} (on {failure.host}) raised"
    error.__cause__ = RemoteTraceback(f"{where}:\n{failure.traceback}")
    return error


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: set for classes made in Python, not for those built in
_OWN_ATTRIBUTES = frozenset(
    {"remote_type", "remote_traceback", "node", "host", "method", "_kourou_failure", "__notes__"}
)


def _instance(kind: type[Exception], failure: Failure) -> Exception:
    """An instance made without ``kind.__init__``, but with what the built-in class below it keeps (errno, code, …)."""
    args = _unpickled(failure.args_pickle, (failure.message,))
    base: Any = next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
    try:
        error: Exception = base.__new__(kind, *args)
        base.__init__(error, *args)
    except Exception:  # noqa: BLE001 - arguments that the built-in class does not take
        error = Exception.__new__(kind) if base is Exception else base.__new__(kind)
        error.args = args
    with contextlib.suppress(TypeError):  # a class may have no __dict__ to fill
        vars(error).update(_unpickled(failure.state_pickle, {}))
    return error


@functools.lru_cache(maxsize=256)
def _remote_class(kind: type[Exception]) -> type[Exception]:
    """The class of what a caller catches in place of ``kind``."""
    if issubclass(kind, RemoteError):
        bases: tuple[type, ...] = (kind,)
    else:
        bases = (RemoteError, kind)
    body = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__init__": Exception.__init__,
        "__reduce__": _reduce,
        "__reduce_ex__": lambda self, _protocol: _reduce(self),
        "__str__": kind.__str__,
        "_kourou_original": kind,
    }
    try:
        return type(kind.__name__, bases, body)
    except TypeError:  # a class that cannot be derived from together with another: its name must do
        return RemoteError


def _reduce(error: Any) -> tuple[Any, ...]:
    return rebuild, (error._kourou_failure,)  # noqa: SLF001


def _pickled(value: object) -> bytes:
    """The value in one piece, or nothing when it cannot be pickled."""
    try:
        body, buffers = codec.encode(value, "an exception")
    except SerializationError:
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
    """The value where it can be pickled, its repr where not."""
    return value if _pickled(value) else _text(value)


def _text(value: object) -> str:
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error it belongs to
        return f"<{type(value).__name__} that cannot be shown>"


def _traceback(error: BaseException) -> str:
    """The traceback without kourou's own frames at its top, which say nothing about the handler."""
    inside = error.__traceback__
    here = os.path.dirname(__file__)  # noqa: PTH120 - compared with co_filename, which is a string
    while inside is not None and inside.tb_next and inside.tb_frame.f_code.co_filename.startswith(here):
        inside = inside.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, inside))
    except Exception:  # noqa: BLE001 - a broken __str__ or __cause__
        return f"{type(error).__qualname__}: {_text(error)}\n"
