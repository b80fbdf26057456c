"""How parameters are written on command lines, which programs differ in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from kourou.experiments.failures import DescriptionError

__all__ = ["ValueStyle", "arguments", "check_style"]

ValueStyle: TypeAlias = Literal["python", "lower", "flags"]
"""``python``: ``--k=True``, ``--k=None``, as Sample Factory has it. ``lower``: ``--k=true``, and nothing for None.
``flags``: ``--k`` or ``--no-k``, and nothing for None. All other values are the same in each: ``--k=0.1``."""


def arguments(params: Mapping[str, Any], *, prefix: str, style: ValueStyle) -> list[str]:
    """The arguments of a command, one text for each, whatever is in the values.

    Args:
        params: the parameters.
        prefix: what stands before their names, such as ``--``.
        style: how truth values and None are written.
    """
    written = []
    for name, value in params.items():
        if value is None and style != "python":
            continue
        if isinstance(value, bool) and style == "flags":
            written.append(f"{prefix}{name}" if value else f"{prefix}no-{name}")
        else:
            text = str(value).lower() if isinstance(value, bool) and style == "lower" else value
            written.append(f"{prefix}{name}={text}")
    return written


def check_style(style: str) -> None:
    """Refuse a style that there is not.

    Raises:
        DescriptionError: naming those that there are.
    """
    if style not in get_args(ValueStyle):
        raise DescriptionError(f"value_style is one of {', '.join(get_args(ValueStyle))}, got {style!r}")
