"""Options of a command as one frozen dataclass, each field with what typer has to know about it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def options_from(options: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """A decorator: a function of one dataclass becomes a command whose options are the dataclass's fields.

    Their types are ``Annotated[…, typer.Option(…)]``.
    """

    def decorated(command: Callable[[T], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(**said: Any) -> None:
            command(options(**said))

        hints = get_type_hints(options, include_extras=True)
        fields = inspect.signature(options).parameters.values()
        named = [field.replace(annotation=hints[field.name]) for field in fields]
        wrapper.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined] # what inspect looks for
        wrapper.__annotations__ = {field.name: field.annotation for field in named}
        return wrapper

    return decorated
