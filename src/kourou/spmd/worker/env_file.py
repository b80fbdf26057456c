"""Reading ``.env`` files as a shell would, without a shell: what a file means is the same on every host.

``NAME=value`` lines, with or without ``export``; ``#`` comments; single quotes keep everything, double quotes and bare
words expand ``$NAME``, ``${NAME}`` and ``${NAME:-default}``, a quoted value may span lines. Commands are refused.

python-dotenv reads another language: it expands no ``$NAME`` without braces, joins no quoted parts, takes a command for
text, and leaves out a line that it does not understand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=")
_EXPORT_ONLY = re.compile(r"[ \t]*export(?:[ \t]+[A-Za-z_][A-Za-z0-9_]*)+[ \t]*(?:#.*)?(?:\n|$)")
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")
_ESCAPED_IN_QUOTES = '$`"\\'


def read_env_file(path: str | os.PathLike[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a file sets.

    Args:
        path: the file, UTF-8.
        environ: what ``$NAME`` means where the file itself has not set it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file; names the line.
    """
    return parse_env(Path(path).read_text(encoding="utf-8"), environ, str(path))


def parse_env(text: str, environ: Mapping[str, str], source: str = "env file") -> dict[str, str]:
    """As :func:`read_env_file`, of a text; ``source`` is what errors call it."""
    return _Reader(text.replace("\r\n", "\n"), environ, source).read()


class _Reader:
    def __init__(self, text: str, environ: Mapping[str, str], source: str) -> None:
        self._text = text
        self._at = 0
        self._source = source
        self._environ = environ
        self._found: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        while self._at < len(self._text):
            if (blank := self._match(_BLANK) or self._match(_EXPORT_ONLY)) is not None:
                self._at = blank.end()
                continue
            assignment = self._match(_ASSIGNMENT)
            if assignment is None:
                raise self._error("is no NAME=value")
            self._at = assignment.end()
            self._found[assignment[1]] = self._value()
        return self._found

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.match(self._text, self._at)

    def _value(self) -> str:
        parts = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "\n":
                self._at += 1
                break
            if char in " \t;":
                self._end_of_line()
                break
            if char == "'":
                parts.append(self._single_quoted())
            elif char == '"':
                parts.append(self._double_quoted())
            else:
                parts.append(self._one(char, escapable=None))
        return "".join(parts)

    def _end_of_line(self) -> None:
        """After a value only a comment may come."""
        while self._text[self._at : self._at + 1] in {" ", "\t", ";"}:
            self._at += 1
        blank = self._match(_BLANK)
        if blank is None:
            raise self._error("goes on after its value; put a value with spaces in quotes")
        self._at = blank.end()

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise self._error("opens a ' that nothing closes")
        value = self._text[self._at + 1 : end]
        self._at = end + 1
        return value

    def _double_quoted(self) -> str:
        opened = self._at
        self._at += 1
        parts: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return "".join(parts)
            parts.append(self._one(char, escapable=_ESCAPED_IN_QUOTES))
        self._at = opened
        raise self._error('opens a " that nothing closes')

    def _one(self, char: str, *, escapable: str | None) -> str:
        """One character, escape or variable; ``escapable`` None: a backslash takes the meaning of whatever follows."""
        if char == "\\" and self._at + 1 < len(self._text):
            after = self._text[self._at + 1]
            self._at += 2
            if after == "\n":
                return ""
            return after if escapable is None or after in escapable else char + after
        if char == "`" or self._text.startswith("$(", self._at):
            raise self._error("runs a command; only variables are expanded")
        variable = self._match(_VARIABLE) if char == "$" else None
        if variable is not None:
            self._at = variable.end()
            name = variable[1] or variable[2]
            value = self._found.get(name, self._environ.get(name, ""))
            return value or variable[3] or ""
        if self._text.startswith("${", self._at):
            raise self._error("has a ${…} other than ${NAME} and ${NAME:-default}")
        self._at += 1
        return char

    def _error(self, what: str) -> ValueError:
        number = self._text.count("\n", 0, self._at) + 1
        line = self._text.split("\n")[number - 1]
        return ValueError(f"{self._source}, line {number}: {line.strip()!r} {what}")
