"""What kourou does not have: names that can be imported, and say what to use instead when they are used."""

from __future__ import annotations

from typing import Any, NoReturn

from kourou import errors


class _Absent(type):
    """The class of stand-ins: classes, so that annotations may name them."""

    remedy: str

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        raise errors.NotSupported(f"{cls.__qualname__}: {cls.remedy}")

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise errors.NotSupported(f"{cls.__qualname__}.{name}: {cls.remedy}")


def absent(name: str, remedy: str) -> Any:
    """A stand-in.

    Args:
        name: as its project has it, with the project's: ``reverb.TFClient``.
        remedy: why it is not there, and what to use instead, in a sentence.
    """
    return _Absent(name, (), {"remedy": remedy, "__module__": __name__})
