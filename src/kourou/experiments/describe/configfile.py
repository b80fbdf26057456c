"""Reading YAML, TOML and JSON files as plain data, without the surprises: ``1e-4`` is a number, ``on`` is a text."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kourou.experiments.failures import DescriptionError
from kourou.extras import load_extra

BASE = "base"


def read_config(path: str | os.PathLike[str], *, base_key: str = BASE) -> dict[str, Any]:
    """Read a file of settings.

    A file whose ``base`` names another one (see :func:`named_in`) adds to that one's settings: sections are merged, all
    else is replaced. Bases may have bases. ``base_key`` says how ``base`` is called.

    Raises:
        FileNotFoundError: there is no such file.
        DescriptionError: it cannot be read, or is its own base.
        MissingExtra: a YAML file, and PyYAML is not installed; or a TOML file, Python 3.10, and no tomli.
    """
    settings: dict[str, Any] = {}
    for _, layer in reversed(_layers(Path(path), base_key)):
        settings = _merged(settings, layer)
    return settings


def find_line(path: Path, keys: Sequence[str | int], *, base_key: str = BASE) -> tuple[Path, int] | None:
    """The file, of those that :func:`read_config` reads, and the line of a setting, or else of what it would stand in.

    None where it cannot be known, as in TOML.
    """
    trees = [(file, _yaml_tree(file)) for file, _ in _layers(path, base_key)]
    for length in range(len(keys), 0, -1):
        for file, tree in trees:
            if (line := _line(tree, keys[:length])) is not None:
                return file, line
    return None


def named_in(file: Path, name: str) -> Path:
    """The file that another one names: relative to it, or where there is none, to the working folder."""
    beside = file.parent / name
    return Path(name) if not beside.exists() and Path(name).exists() else beside


def _layers(path: Path, base_key: str) -> list[tuple[Path, dict[str, Any]]]:
    """What a file says, what its base says, and so on."""
    layers: list[tuple[Path, dict[str, Any]]] = []
    base: str | None = str(path)
    while base is not None:
        file = named_in(layers[-1][0], base) if layers else path
        if file.resolve() in (above := [earlier.resolve() for earlier, _ in layers]):
            chain = " → ".join(earlier.name for earlier in (*above, file))
            raise DescriptionError(f"{file.name} is its own base: {chain}")
        settings = _parsed(file)
        base = settings.pop(base_key, None)
        if base is not None and not isinstance(base, str):
            raise DescriptionError(f"{file}: {base_key}: expected the name of another file, got {base!r}")
        layers.append((file, settings))
    return layers


def _parsed(path: Path) -> dict[str, Any]:
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
    return settings


def _merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def _parse_yaml(text: str) -> Any:
    yaml = load_extra("yaml")
    try:
        return yaml.load(text, Loader=_yaml_loader(yaml))
    except yaml.YAMLError as error:
        raise DescriptionError(" ".join(str(error).split())) from error


def _yaml_tree(path: Path) -> Any:
    """PyYAML's nodes, which know their lines; JSON is YAML, nearly always."""
    if path.suffix.lower() == ".toml":
        return None
    yaml = load_extra("yaml")
    try:
        return yaml.compose(path.read_text(encoding="utf-8"), Loader=_yaml_loader(yaml))
    except yaml.YAMLError:  # tabs in JSON, such as YAML does not have
        return None


def _line(tree: Any, keys: Sequence[str | int]) -> int | None:
    """The line of what keys lead to in PyYAML's nodes: a section's are pairs, a list's are its items."""
    start = None
    for key in keys:
        children: Any = getattr(tree, "value", None)
        if not isinstance(children, list):
            return None
        if children and isinstance(children[0], tuple):
            found = [(name, value) for name, value in children if name.value == str(key)]
        else:
            found = [(item, item) for index, item in enumerate(children) if index == key]
        if not found:
            return None
        ((start, tree),) = found
    return None if start is None else start.start_mark.line + 1


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
    ".toml": lambda text: load_extra("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text),
    ".json": lambda text: json.loads(text, object_pairs_hook=_distinct),
}
