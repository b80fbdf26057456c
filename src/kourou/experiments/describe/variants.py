"""Variants of a nested configuration, as rlpyt makes them: levels of settings, crossed, each with a folder's name."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kourou.experiments.failures import DescriptionError, ResultsError, VariantKeyError, VariantTypeError
from kourou.ownership import replace_own
from kourou.shown import meant

VARIANT_FILE = "variant_config.json"


class VariantLevel(NamedTuple):
    """Settings that vary together: row ``i`` of ``values`` is one setting, and its runs go below ``dir_names[i]``.

    Example::

        VariantLevel(
            keys=[("agent", "lr"), ("agent", "batch")],
            values=[(1e-3, 32), (1e-4, 256)],
            dir_names=["fast", "slow"],
        )
    """

    keys: Sequence[Sequence[str]]
    """Where each value goes: the keys from the outermost dictionary to the innermost."""
    values: Sequence[Sequence[Any]]
    """Settings, each with one value for each key."""
    dir_names: Sequence[str]
    """A folder's name for each setting, relative to that of the level before."""


def make_variants(*variant_levels: VariantLevel) -> tuple[list[dict[str, Any]], list[str]]:
    """Cross levels: every setting of one with every setting of the next, the first level varying slowest.

    Returns:
        The variants, and for each the folder of its runs.

    Raises:
        DescriptionError: lengths that do not match, or two variants with one folder.
    """
    variants: list[dict[str, Any]] = [{}]
    log_dirs = [""]
    seen: set[tuple[str, ...]] = set()
    for number, level in enumerate(variant_levels):
        _check_level(level, number)
        repeated = seen.intersection(tuple(key) for key in level.keys)
        if repeated:
            raise DescriptionError(f"level {number} sets {_dotted(min(repeated))}, which an earlier level sets")
        seen.update(tuple(key) for key in level.keys)
        variants, log_dirs = _cross(variants, log_dirs, level)
    return variants, log_dirs


def save_variant(variant: Mapping[str, Any], log_dir: str | os.PathLike[str]) -> None:
    """Write a variant to ``variant_config.json`` in a folder, which is made if need be.

    Tuples become lists and NumPy's numbers and arrays plain ones, as JSON has it.

    Raises:
        VariantTypeError: a value that JSON cannot hold.
    """
    try:
        text = json.dumps(variant, indent=4, default=_plain)
    except (TypeError, ValueError) as error:
        raise VariantTypeError(f"{VARIANT_FILE} cannot hold the variant: {error}") from error
    folder = Path(log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    replace_own(folder / VARIANT_FILE, f"{text}\n".encode(), mode=0o644)


def load_variant(log_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the variant of a folder.

    Raises:
        FileNotFoundError: there is none.
        ResultsError: the file is no variant.
    """
    path = Path(log_dir) / VARIANT_FILE
    try:
        variant = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{path} is no JSON: {error}") from error
    if not isinstance(variant, dict):
        raise ResultsError(f"{path} holds a {type(variant).__name__} where a variant is a JSON object")
    return variant


def update_config(default: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with a variant's values in place of its own. Neither argument is changed.

    Raises:
        VariantKeyError: the configuration has no such key, so the value would have no effect.
        VariantTypeError: a value would take the place of a section, or the reverse.
    """
    return _updated(default, variant, ())


def to_dotted(variant: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten: ``{"a": {"b": 1}}`` → ``{"a.b": 1}``, as command lines have it.

    Raises:
        DescriptionError: a key that could not be told apart afterwards.
    """
    flat: dict[str, Any] = {}
    for key, value in variant.items():
        if not isinstance(key, str) or not key or "." in key:
            raise DescriptionError(f"key {key!r} cannot be part of a dotted name: it is no string, empty, or has a dot")
        if isinstance(value, Mapping) and value:
            flat.update({f"{key}.{name}": inner for name, inner in to_dotted(value).items()})
        else:
            flat[key] = value
    return flat


def _cross(
    variants: Sequence[dict[str, Any]], log_dirs: Sequence[str], level: VariantLevel
) -> tuple[list[dict[str, Any]], list[str]]:
    crossed: list[dict[str, Any]] = []
    folders: list[str] = []
    for variant, log_dir in zip(variants, log_dirs, strict=True):
        for row, name in zip(level.values, level.dir_names, strict=True):
            made = copy.deepcopy(variant)
            for key, value in zip(level.keys, row, strict=True):
                _set_nested(made, key, copy.deepcopy(value))
            crossed.append(made)
            folders.append(os.path.join(log_dir, name))  # noqa: PTH118 - a text in rlpyt's scripts
    twice = {folder for folder in folders if folders.count(folder) > 1} if len(set(folders)) < len(folders) else set()
    if twice:
        raise DescriptionError(f"Names must be unique. More than one variant would go to {min(twice)!r}")
    return crossed, folders


def _check_level(level: VariantLevel, number: int) -> None:
    where = f"level {number}"
    if isinstance(level.keys, str) or any(isinstance(key, str) or not key for key in level.keys):
        raise DescriptionError(f"{where}: a key is a tuple of names, such as ('agent', 'lr') or ('seed',)")
    if not level.keys or not level.values:
        raise DescriptionError(f"{where} has no {'values' if level.keys else 'keys'}")
    if len(level.values) != len(level.dir_names):
        raise DescriptionError(f"{where} has {len(level.values)} values, but {len(level.dir_names)} dir_names")
    for row_number, row in enumerate(level.values):
        if isinstance(row, str) or not isinstance(row, Sequence):
            raise DescriptionError(f"{where}: values[{row_number}] is a tuple with one value for each key, got {row!r}")
        if len(row) != len(level.keys):
            names = ", ".join(_dotted(key) for key in level.keys)
            raise DescriptionError(
                f"{where}: values[{row_number}] has {len(row)} values for {len(level.keys)} keys ({names})"
            )
    for name in level.dir_names:
        if not isinstance(name, str) or not name.strip("/.") or name.startswith("/") or ".." in name.split("/"):
            raise DescriptionError(f"{where}: {name!r} names no folder below that of the experiment")


def _set_nested(variant: dict[str, Any], key: Sequence[str], value: Any) -> None:
    section = variant
    for depth, name in enumerate(key[:-1]):
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise VariantTypeError(f"{_dotted(key[: depth + 1])} is a value, so {_dotted(key)} cannot be set in it")
    if isinstance(section.get(key[-1]), dict) and not isinstance(value, dict):
        raise VariantTypeError(f"{_dotted(key)} is a section, so it cannot be set to {value!r}")
    section[key[-1]] = value


def _updated(default: Mapping[str, Any], variant: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    config = {key: copy.deepcopy(value) for key, value in default.items()}
    for key, value in variant.items():
        here = (*path, str(key))
        if key not in default:
            hint = meant(key, default, "it has")
            raise VariantKeyError(f"Variant key {_dotted(here)} not found in default config; {hint}")
        if isinstance(value, Mapping) != isinstance(default[key], Mapping):
            section, plain = ("config", "variant") if isinstance(default[key], Mapping) else ("variant", "config")
            raise VariantTypeError(
                f"Variant key {_dotted(here)} is a section in the {section}, but a value in the {plain}"
            )
        config[key] = _updated(default[key], value, here) if isinstance(value, Mapping) else copy.deepcopy(value)
    return config


def _dotted(key: Sequence[str]) -> str:
    return ".".join(str(name) for name in key)


def _plain(value: Any) -> Any:
    """NumPy's and torch's numbers and arrays as plain ones."""
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} is of type {type(value).__name__}")
