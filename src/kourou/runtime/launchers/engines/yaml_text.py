"""Plain data as YAML, for people to read and kubectl to take. Text is quoted: none is taken for another type."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def to_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """One document after another."""
    return "---\n".join("\n".join(_lines(each)) + "\n" for each in documents)


def _lines(value: Any) -> list[str]:
    """The lines of a mapping or a list that is not empty, or the one line of anything else."""
    if isinstance(value, Mapping) and value:
        return [line for key, each in value.items() for line in _entry(f"{quoted(key)}:", each)]
    if isinstance(value, (list, tuple)) and value:
        return [line for each in value for line in _item(each)]
    return [json.dumps(value, ensure_ascii=False)]


def _entry(key: str, value: Any) -> list[str]:
    lines = _lines(value)
    if not isinstance(value, (Mapping, list, tuple)) or not value:
        return [f"{key} {lines[0]}"]
    return [key, *(f"  {line}" for line in lines)]


def _item(value: Any) -> list[str]:
    first, *others = _lines(value)
    return [f"- {first}", *(f"  {line}" for line in others)]


def quoted(text: str) -> str:
    """A key, or a value, without quotes where it needs none."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text, ensure_ascii=False)


_PLAIN = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # of YAML, which are no text
