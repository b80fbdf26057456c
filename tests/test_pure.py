"""The guard of `make test-fast` sees what a pure test does not do, and its lists name what there is."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from pure import FILES, TESTS, TESTS_OF_OTHER_FILES, Guard

GUARD = Guard()


def call_another_host() -> None:
    with socket.socket() as caller:
        caller.connect(("192.0.2.1", 9))


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: subprocess.run([sys.executable, "-c", ""], check=True), "starts a process"),
        (os.fork, "starts a process"),
        (call_another_host, "calls"),
        (lambda: time.sleep(0.6), "sleeps"),
    ],
    ids=["run", "fork", "connect", "sleep"],
)
def test_what_a_pure_test_does_not_do_fails_it_even_if_it_takes_the_error(act: Callable[[], object], told: str) -> None:
    with pytest.raises(AssertionError, match=told), GUARD.watching(), contextlib.suppress(AssertionError):
        act()


def test_threads_and_calls_of_oneself_are_pure() -> None:
    with GUARD.watching(), socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_the_lists_name_what_there_is() -> None:
    for folder, names in FILES.items():
        for name in names:
            assert (TESTS / folder / f"test_{name}.py").is_file(), (folder, name)
    for test in TESTS_OF_OTHER_FILES:
        file, *_, name = test.partition("[")[0].split("::")
        assert f"def {name}" in (TESTS / file).read_text(encoding="utf-8"), test
