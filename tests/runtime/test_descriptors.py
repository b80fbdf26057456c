"""Descriptors: numbers that ``select`` does not take, and what is said when there are none left."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from kourou.limits import with_remedy
from kourou.runtime.files.descriptors import is_readable

MANY = 1500


@pytest.fixture
def room() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= MANY:
        pytest.skip("this machine allows no such numbers")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + 1) if soft != resource.RLIM_INFINITY else soft, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("room")
def test_whatever_its_number_it_is_found_readable() -> None:
    reading, writing = os.pipe()
    high = fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, MANY)
    try:
        assert not is_readable(high, 0.0)
        os.write(writing, b"x")
        assert is_readable(high, 10.0)
        os.read(high, 1)
    finally:
        os.close(writing)
    assert is_readable(high, 10.0)  # the end
    os.close(high)
    os.close(reading)


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EMFILE, "ulimit -n"), (errno.EAGAIN, "ulimit -u"), (errno.ENOSPC, "disk may be full")]
)
def test_what_has_run_out_is_told_with_a_remedy(number: int, remedy: str) -> None:
    assert remedy in with_remedy(OSError(number, os.strerror(number)))


def test_a_full_disk_is_told_with_what_is_free_where_the_file_is_known(tmp_path: Path) -> None:
    told = with_remedy(OSError(errno.ENOSPC, "No space left", str(tmp_path / "file")))
    assert re.search(rf"may be full: \d+ KiB.* are free on the disk of {tmp_path} ", told)
