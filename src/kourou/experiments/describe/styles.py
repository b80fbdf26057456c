"""How parameters are written on command lines, which programs differ in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

ArgumentForm: TypeAlias = Literal["--key=value", "--key value", "key=value", "environment"]
"""``key=value`` is Hydra's; ``environment`` puts parameters into environment variables of their names."""

ValueStyle: TypeAlias = Literal["python", "lower", "flags", "hydra"]
"""``python``: ``--k=True``, ``--k=None``, as Sample Factory has it. ``lower``: ``--k=true``, and nothing for None.
``flags``: ``--k`` or ``--no-k``, and nothing for None. ``hydra``: ``k=true``, ``k=null``, and texts in quotes where its
grammar would take them for something else. All other values are the same in each: ``--k=0.1``."""

_PLAIN = re.compile(r"[A-Za-z_/$%*@?|:][\w/\-+.$%*@?|:]*")  # what Hydra takes for a text without quotes
_NO_TEXT = frozenset({"true", "false", "null", "nan", "inf"})  # but for these, in upper or lower case


def arguments(
    params: Mapping[str, Any], *, prefix: str = "--", style: ValueStyle = "python", apart: bool = False
) -> list[str]:
    """The arguments of a command, one text for each, whatever is in the values.

    Args:
        params: the parameters.
        prefix: what stands before their names.
        style: how truth values, None and texts are written.
        apart: whether a value is an argument of its own.
    """
    written = []
    for name, value in params.items():
        text = as_text(value, style)
        if isinstance(value, bool) and style == "flags":
            written.append(f"{prefix}{name}" if value else f"{prefix}no-{name}")
        elif text is not None:
            written.extend([f"{prefix}{name}", text] if apart else [f"{prefix}{name}={text}"])
    return written


def as_text(value: Any, style: ValueStyle) -> str | None:
    """A value in a style; None where nothing is written for it."""
    if style == "hydra":
        return _for_hydra(value)
    if value is None and style != "python":
        return None
    return str(value).lower() if isinstance(value, bool) and style != "python" else str(value)


def _for_hydra(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_for_hydra(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_for_hydra, value)) + "]"
    if not isinstance(value, str) or (_PLAIN.fullmatch(value) and value.lower() not in _NO_TEXT):
        return str(value)
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # a backslash is one of its own, but before a quote or at the end
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"
