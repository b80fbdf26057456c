"""A file is read while it grows: each part once, lines whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from kourou.runtime.files import growing_file
from kourou.runtime.files.growing_file import GrowingFile, tail


def test_what_is_added_is_read_once(tmp_path: Path) -> None:
    # Given a file that is not there yet
    path = tmp_path / "log"
    growing = GrowingFile(path)
    assert (growing.read(), tail(path, 10)) == (b"", b"")
    # When it grows, then each part is read once, and its end as often as one likes
    for part in (b"one\n", b"t", b"wo\n"):
        with path.open("ab") as file:
            file.write(part)
        assert growing.read() == part
    assert growing.read() == b""
    assert (tail(path, 4), tail(path, 100)) == (b"two\n", b"one\ntwo\n")


def test_lines_are_whole_however_long_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given that little is read at once, and lines of which one is longer than that, and one is under way
    monkeypatch.setattr(growing_file, "_LINES_BYTES", 4)
    path = tmp_path / "rows"
    path.write_bytes(b"a\nb\nc\n" + b"x" * 50 + b"\nunder")
    growing = GrowingFile(path, offset=2)
    # When they are read, then they come in parts, the long one whole, and the last one when it has an end
    assert list(iter(growing.read_lines, b"")) == [b"b\nc\n", b"x" * 50 + b"\n"]
    with path.open("ab") as file:
        file.write(b" way\n")
    assert list(iter(growing.read_lines, b"")) == [b"under way\n"]
