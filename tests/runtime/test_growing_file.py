"""A file is read while it grows: each part once, lines whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kourou.runtime.files import growing_file
from kourou.runtime.files.event_follower import EventFollower
from kourou.runtime.files.growing_file import GrowingFile, tail
from kourou.runtime.files.run_folder import EVENTS_FILE

PREAD = os.pread


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


def test_a_look_at_a_run_s_events_reads_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a run of which much has happened, and one that looks at it again and again
    file = tmp_path / EVENTS_FILE
    event = b'{"event": "node", "name": "actor/%d", "state": "READY", "pid": 1, "attempt": 1, "will_restart": false}\n'
    file.write_bytes(b"".join(event % number for number in range(100_000)))
    follower = EventFollower(tmp_path)
    assert len(follower.read()) == 100_000
    read: list[bytes] = []

    def pread(*arguments: int) -> bytes:
        read.append(PREAD(*arguments))
        return read[-1]

    monkeypatch.setattr(os, "pread", pread)
    # When nothing has happened since, or little has, and a launcher died in the middle of a line
    assert follower.read() == []
    with file.open("ab") as added:
        added.write(b'{"event": "st\n' + event % 7)
    assert [told["name"] for told in follower.read()] == ["actor/7"]
    # Then no more than that was read
    assert sum(map(len, read)) < 1000
    # and what was before the run began again is past
    with file.open("ab") as added:
        added.write(event % 8 + b'{"event": "begins again"}\n' + event % 9)
    assert [told.get("name") for told in follower.read()] == [None, "actor/9"]
