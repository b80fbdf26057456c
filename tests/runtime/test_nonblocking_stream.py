"""Writing to what may take nothing for a while."""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading
import warnings

import pytest

from kourou.runtime.files import nonblocking_stream
from kourou.runtime.files.nonblocking_stream import NonBlockingStream
from polling import WAIT_S

LINE = "x" * 999

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def pipe():
    """A pipe: the end that is read, and a stream like sys.stdout."""
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "w", encoding="utf-8")
    reader = os.fdopen(read_end, encoding="utf-8")
    yield reader, stream
    stream.close()
    reader.close()


def test_nobody_waits_for_a_pipe_that_is_not_read_and_what_was_dropped_is_counted(pipe, tmp_path):
    # Given a pipe that nobody reads
    reader, stream = pipe
    patient = NonBlockingStream(stream, kept_in=tmp_path / "output.log")
    # When more is written than may wait
    for number in range(20_000):
        patient.write(f"{number} {LINE}\n")
    # and somebody reads at last
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.extend(reader))
    reading.start()
    patient.close()
    stream.close()
    reading.join(WAIT_S)
    # Then the first lines are there, whole and in order, and the others are counted
    assert not reading.is_alive()
    *shown, last = lines
    assert shown == [f"{number} {LINE}\n" for number in range(len(shown))]
    told = re.fullmatch(r"kourou: (\d+) lines are not shown, .* they are in (.*)\n", last)
    assert told is not None
    assert int(told[1]) == 20_000 - len(shown) > 0
    assert told[2] == str(tmp_path / "output.log")


def test_the_end_waits_no_longer_than_some_seconds_for_one_who_takes_nothing(pipe, monkeypatch, caplog):
    # Given a pipe that is full
    monkeypatch.setattr(nonblocking_stream, "_STALLED_S", 0.2)
    _, stream = pipe
    patient = NonBlockingStream(stream)
    for number in range(200):
        patient.write(f"{number} {LINE}\n")
    # When, Then
    patient.close()
    patient.close()
    (told,) = {record.getMessage() for record in caplog.records}
    assert re.fullmatch(r"1\d\d lines are not shown, because this output took nothing for a while", told)


def test_what_was_written_to_the_stream_before_comes_before(pipe):
    reader, stream = pipe
    stream.write("the launcher's own line\n")
    patient = NonBlockingStream(stream)
    patient.write("a node's line, of Köln \udcff\n")
    patient.close()
    stream.close()
    assert reader.read() == "the launcher's own line\na node's line, of K\\xf6ln \\udcff\n"


def test_a_stream_that_is_none_of_the_system_s_is_written_to(capsys):
    stream = io.StringIO()
    patient = NonBlockingStream(stream)
    patient.write("hello\n")
    patient.close()
    assert stream.getvalue() == "hello\n"


def test_one_that_is_broken_or_closed_does_no_harm(pipe):
    reader, stream = pipe
    reader.close()
    broken = NonBlockingStream(stream)
    broken.write("x\n")
    broken.close()
    closed = io.StringIO()
    closed.close()
    patient = NonBlockingStream(closed)
    patient.write("x\n")
    patient.close()


def test_a_fork_writes_by_itself(pipe):
    reader, stream = pipe
    patient = NonBlockingStream(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks of processes with threads
        child = os.fork()
    if child == 0:
        patient.write("the fork's line\n")
        os._exit(0)
    os.waitpid(child, 0)
    patient.close()
    stream.close()
    assert reader.read() == "the fork's line\n"


def test_a_warning_does_not_wait_for_a_standard_error_that_takes_nothing(pipe, monkeypatch, caplog):
    _, stream = pipe
    monkeypatch.setattr("sys.stderr", stream)
    nonblocking_stream.warn("the first %s", "one")
    os.set_blocking(stream.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(stream.fileno(), b"x" * 4096)
    nonblocking_stream.warn("the second one")
    nonblocking_stream.say("nor does a line")
    assert [record.getMessage() for record in caplog.records] == ["the first one"]
