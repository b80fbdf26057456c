"""Taking settings out of a section of a file one by one, so that every mistake is told with its place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from kourou.experiments.failures import DescriptionError

__all__ = ["REQUIRED", "Section"]

T = TypeVar("T")
REQUIRED: Any = object()
"""Stands for a default where there is none."""


class Section:
    """A section of a file of settings.

    Args:
        values: what is in it.
        path: where it is, such as ``sweep.yaml: experiments[0].params``.
    """

    def __init__(self, values: Any, path: str) -> None:
        self.path = path
        if not isinstance(values, Mapping):
            raise DescriptionError(f"{path}: expected keys and values, got {values!r}")
        for key in values:
            if not isinstance(key, str):
                raise DescriptionError(f"{path}: key {key!r} is no text; write it in quotes")
        self._values = dict(values)
        self._known: list[str] = []

    def place(self, key: str) -> str:
        """Where a key is, for messages."""
        return f"{self.path}{'.' if not self.path.endswith(': ') else ''}{key}"

    def take(self, key: str, kind: type[T] | tuple[type[T], ...], default: T | None = REQUIRED) -> T:
        """One setting.

        Args:
            key: its name.
            kind: what it has to be.
            default: what it is if the file does not say.

        Raises:
            DescriptionError: it is missing, or is something else.
        """
        self._known.append(key)
        if key not in self._values:
            if default is REQUIRED:
                close = difflib.get_close_matches(key, self._values, n=1)
                hint = f" (there is {close[0]!r})" if close else ""
                raise DescriptionError(f"{self.place(key)}: missing{hint}")
            return default  # type: ignore[return-value] # None is a default that callers with an optional setting give
        value = self._values.pop(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        # A boolean is an integer to Python, but not to whoever wrote the file.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join(_NAMES.get(each, each.__name__) for each in kinds)
            raise DescriptionError(f"{self.place(key)}: expected {expected}, got {value!r}")
        return value

    def section(self, key: str) -> Section:
        """A section in this one; empty if the file has none."""
        return Section(self.take(key, dict, {}), self.place(key))

    def names(self) -> tuple[str, ...]:
        """The keys that have not been taken yet."""
        return tuple(self._values)

    def one_of(self, *keys: str, optional: bool = False) -> str | None:
        """Which one of some keys the section has.

        Raises:
            DescriptionError: several, or none and one is needed.
        """
        there = [key for key in keys if key in self._values]
        self._known += keys
        if len(there) > 1 or not (there or optional):
            self.finish()
            raise DescriptionError(
                f"{self.path}: expected one of {', '.join(keys)}, got {' and '.join(there) or 'none'}"
            )
        return there[0] if there else None

    def finish(self) -> None:
        """Refuse what has not been taken.

        Raises:
            DescriptionError: naming a key that nobody knows.
        """
        for key in self._values:
            if key not in self._known:
                close = difflib.get_close_matches(key, self._known, n=1)
                hint = (
                    f"did you mean {close[0]!r}?" if close else f"there may be {', '.join(dict.fromkeys(self._known))}"
                )
                raise DescriptionError(f"{self.place(key)}: no such setting; {hint}")


_NAMES: dict[type, str] = {
    bool: "true or false",
    dict: "keys and values",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "a text",
    type(None): "nothing",
}
