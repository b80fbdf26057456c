"""Checking a file of settings against pydantic's models of its sections, so that mistakes are told with their place.

All mistakes of a file are told at once, each with the file, the keys that lead to it, the line where the file's format
has lines that can be found, what is there and what may be there.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError
from typing_extensions import Self

from kourou.experiments.describe.configfile import BASE, find_line
from kourou.experiments.failures import DescriptionError
from kourou.shown import meant

T = TypeVar("T")
SectionT = TypeVar("SectionT", bound="Section")
Keys: TypeAlias = "tuple[str | int, ...]"
"""What leads to a setting: names in sections, and positions in lists."""


class Section(BaseModel):
    """What a section of a file may have. Fields are documented where they stand, and these words are in the schema."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)
    one_of: ClassVar[tuple[str, ...]] = ()
    """Of these keys a section has one."""
    needs_one: ClassVar[bool] = True
    """Whether it may not have none of them."""

    @property
    def chosen(self) -> str | None:
        """Which of ``one_of`` the section has."""
        fields = type(self).model_fields
        given = [field.alias or name for name, field in fields.items() if getattr(self, name) is not None]
        return next((key for key in self.one_of if key in given), None)

    @model_validator(mode="wrap")
    @classmethod
    def _has_one_of(cls, values: Any, validate: Callable[[Any], Self]) -> Self:
        made = validate(values)
        there = [key for key in cls.one_of if values.get(key) is not None]
        if cls.one_of and (len(there) > 1 or (cls.needs_one and not there)):
            got = " and ".join(there) or "none"
            raise PydanticCustomError(
                "one_of", "expected one of {known}, got {got}", {"known": ", ".join(cls.one_of), "got": got}
            )
        return made

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        if cls.one_of:
            each = [{"required": [key]} for key in cls.one_of]
            schema["oneOf"] = each if cls.needs_one else [*each, {"not": {"anyOf": each}}]
        return schema


class ConfigFile:
    """A file of settings, for messages about it.

    Args:
        path: the file.
        base_key: the key by which such files name another one that they add to.
    """

    def __init__(self, path: str | os.PathLike[str], *, base_key: str = BASE) -> None:
        self._path = Path(path)
        self._base_key = base_key

    def check(self, section: type[SectionT], settings: Any) -> SectionT:
        """Settings that were read from the file, as the model of their section has them.

        Raises:
            DescriptionError: they have not got it; the message has a line for each mistake.
        """
        try:
            return section.model_validate(settings)
        except ValidationError as error:
            mistakes = _by_place(error.errors(include_url=False), settings)
            raise DescriptionError("\n".join(self._at(*told) for told in _told(section, mistakes))) from None

    def at(self, keys: Keys, make: Callable[[], T]) -> T:
        """What ``make`` returns; its mistakes are told with their place in the file.

        Raises:
            DescriptionError: what ``make`` raised.
        """
        try:
            return make()
        except DescriptionError as error:
            raise DescriptionError(self._at(keys, str(error))) from error

    def _at(self, keys: Keys, message: str) -> str:
        path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
        found = find_line(self._path, keys, base_key=self._base_key) if keys else None
        where = ""
        if found is not None:
            where = f" (line {found[1]})" if found[0] == self._path else f" ({found[0].name}, line {found[1]})"
        return f"{self._path.name}: {f'{path}: ' if path else ''}{message}{where}"


def _by_place(errors: Iterable[ErrorDetails], settings: Any) -> dict[Keys, list[ErrorDetails]]:
    """Errors by the keys that lead to them: those of each type of a union are of one place."""
    found: dict[Keys, list[ErrorDetails]] = {}
    for details in errors:
        value, keys = settings, []
        for key in details["loc"]:
            if isinstance(value, (dict, list)) and (key in value if isinstance(value, dict) else isinstance(key, int)):
                value = value[key]  # type: ignore[index] # a position where it is a list
                keys.append(key)
            # Else it is the name of a type in a union, which says nothing to whoever wrote the file.
        if details["type"] == "missing":
            keys.append(details["loc"][-1])
        found.setdefault(tuple(keys), []).append(details)
    # Where a union's type was right as far as some setting within, that one is wrong.
    return {
        keys: told
        for keys, told in found.items()
        if not any(keys == more[: len(keys)] for more in found if more != keys)
    }


def _told(section: type[Section], mistakes: dict[Keys, list[ErrorDetails]]) -> Iterable[tuple[Keys, str]]:
    unknown = [keys for keys, (first, *_) in mistakes.items() if first["type"] == "extra_forbidden"]
    misspelt: list[Keys] = []
    for keys, (first, *_) in mistakes.items():
        if first["type"] == "missing":
            close = difflib.get_close_matches(str(keys[-1]), [str(k[-1]) for k in unknown if k[:-1] == keys[:-1]], n=1)
            misspelt += [(*keys[:-1], close[0])] if close else []
            yield keys, f"missing{f' (there is {close[0]!r})' if close else ''}"
    for keys, details in mistakes.items():
        if details[0]["type"] != "missing" and keys not in misspelt:
            yield keys, _message(section, keys, details)


def _message(section: type[Section], keys: Keys, mistakes: Sequence[ErrorDetails]) -> str:
    kinds = [_KINDS[details["type"]] for details in mistakes if details["type"] in _KINDS]
    first = mistakes[0]
    if first["type"] == "extra_forbidden":
        return f"no such setting; {meant(keys[-1], _known(section, keys[:-1]), 'there may be')}"
    if first["type"] == "invalid_key" or "[key]" in first["loc"]:
        return f"key {keys[-1]!r} is no text; write it in quotes"
    if len(kinds) == len(mistakes):
        return f"expected {' or '.join(dict.fromkeys(kinds))}, got {first['input']!r}"
    (other, *_) = (details for details in mistakes if details["type"] not in _KINDS)
    words = _WORDS.get(other["type"])
    return f"{words.format(**other.get('ctx', {}))}, got {other['input']!r}" if words else other["msg"]


def _known(section: type[Section], keys: Keys) -> list[str]:
    """What the section that keys lead to may have."""
    for key in keys:
        field = _fields(section).get(str(key))
        section = (field and _section_in(field)) or section
    return list(_fields(section))


def _fields(section: type[Section]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in section.model_fields.items()}


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


_WORDS = {
    "greater_than_equal": "expected at least {ge}",
    "literal_error": "expected {expected}",
    "too_short": "expected at least one",
}
_KINDS = {
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "keys and values",
    "none_required": "nothing",
    "string_type": "a text",
}
