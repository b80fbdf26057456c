"""Plain data as YAML, for people to read and kubectl to take. Text is quoted: none is taken for another type."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def to_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """One document after another."""
    return "---\n".join("\n".join(_lines(each)) + "\n" for each in documents)


def _lines(value: Any) -> list[str]:
    """The lines of a mapping or a list that is not empty, or the one line of anything else."""
    if isinstance(value, Mapping) and value:
        return [line for key, each in value.items() for line in _entry(f"{_key(key)}:", each)]
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


def _key(key: str) -> str:
    plain = key.replace("-", "").replace("_", "").isalnum() and key[0].isalpha() and key.isascii()
    return key if plain and key.lower() not in _WORDS else json.dumps(key, ensure_ascii=False)


_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # of YAML, which are no text
