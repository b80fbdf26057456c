"""Reading YAML, TOML and JSON files as plain data, without the surprises: ``1e-4`` is a number, ``on`` is a text."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kourou.experiments.extras import load_extra
from kourou.experiments.failures import DescriptionError

__all__ = ["named_in", "read_config"]

_BASE = "base"


def read_config(path: str | os.PathLike[str], *, base_key: str = _BASE) -> dict[str, Any]:
    """Read a file of settings.

    A file whose ``base`` names another one (see :func:`named_in`) adds to that one's settings: sections are merged, all
    else is replaced. Bases may have bases. ``base_key`` says how ``base`` is called.

    Raises:
        FileNotFoundError: there is no such file.
        DescriptionError: it cannot be read, or is its own base.
        MissingExtra: a YAML file, and PyYAML is not installed; or a TOML file, Python 3.10, and no tomli.
    """
    return _read(Path(path), base_key, ())


def named_in(file: Path, name: str) -> Path:
    """The file that another one names: relative to it, or where there is none, to the working folder."""
    beside = file.parent / name
    return Path(name) if not beside.exists() and Path(name).exists() else beside


def _read(path: Path, base_key: str, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        chain = " → ".join(file.name for file in (*above, path))
        raise DescriptionError(f"{path.name} is its own base: {chain}")
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise DescriptionError(f"{path}: a sweep file ends in {', '.join(_PARSERS)}, not {path.suffix!r}")
    try:
        settings = parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DescriptionError(f"{path}: {error}") from error
    if not isinstance(settings, dict):
        raise DescriptionError(
            f"{path}: holds a {type(settings).__name__} where a file of settings has keys and values"
        )
    base = settings.pop(base_key, None)
    if base is None:
        return settings
    if not isinstance(base, str):
        raise DescriptionError(f"{path}: {base_key}: expected the name of another file, got {base!r}")
    return _merged(_read(named_in(path, base), base_key, (*above, path.resolve())), settings)


def _merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_distinct)


def _parse_toml(text: str) -> Any:
    return load_extra("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text)


def _parse_yaml(text: str) -> Any:
    yaml = load_extra("yaml", "pyyaml")
    try:
        return yaml.load(text, Loader=_yaml_loader(yaml))
    except yaml.YAMLError as error:
        raise DescriptionError(" ".join(str(error).split())) from error


def _yaml_loader(yaml: Any) -> Any:
    """YAML's safe loader with the numbers and booleans of YAML 1.2, and without keys that come twice."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML is loaded only when a YAML file is read
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
            own = [(self.construct_object(k, deep=True), v) for k, v in node.value if not k.tag.endswith(":merge")]
            _distinct(own)
            made: dict[Any, Any] = super().construct_mapping(node, deep)
            return made

    resolvers = {
        "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
        "float": (
            r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            "-+0123456789.",
        ),
        "int": (r"[-+]?\d+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        "merge": (r"<<", "<"),
    }
    Loader.yaml_implicit_resolvers = {}
    for name, (pattern, first) in resolvers.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"(?:{pattern})$"), list(first))
    Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: _integer(loader.construct_scalar(node)))
    return Loader


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)


def _distinct(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, value in pairs:
        try:
            repeated = key in made
        except TypeError as error:
            raise DescriptionError(f"{key!r} cannot be a key") from error
        if repeated:
            raise DescriptionError(f"key {key!r} comes twice in one section")
        made[key] = value
    return made


_PARSERS: dict[str, Callable[[str], Any]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
    ".json": _parse_json,
}
