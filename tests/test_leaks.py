"""The leak check sees what it is there to see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from leaks import SHARED_MEMORY, Snapshot
from polling import until

NOW_S = 0.2
SOON_S = 10.0


def test_nothing_is_left_when_nothing_happened(runs_dir: Path) -> None:
    assert Snapshot.take(runs_dir).leftovers() == []


def test_a_thread_is_seen_until_it_ends(runs_dir: Path) -> None:
    before = Snapshot.take(runs_dir)
    end = threading.Event()
    threading.Thread(target=end.wait, name="lingering").start()
    assert before.leftovers_after(NOW_S) == ["thread lingering"]
    end.set()
    assert before.leftovers_after(SOON_S) == []


def test_a_file_descriptor_is_seen_until_it_is_closed(runs_dir: Path) -> None:
    before = Snapshot.take(runs_dir)
    number = os.open(os.devnull, os.O_RDONLY)
    assert before.leftovers_after(NOW_S) == [f"file descriptor {number} -> {os.devnull}"]
    os.close(number)
    assert before.leftovers_after(SOON_S) == []


def test_a_child_is_seen_until_it_is_a_zombie(runs_dir: Path) -> None:
    before = Snapshot.take(runs_dir)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        assert [line.split(" (")[0] for line in before.leftovers_after(NOW_S)] == [f"process {child.pid}"]
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
        assert before.leftovers_after(SOON_S) == []


ORPHANING = (
    "import subprocess, sys;"
    "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
    " stdout=subprocess.DEVNULL, start_new_session=True).pid)"
)


def test_an_orphan_in_a_session_of_its_own_is_seen(runs_dir: Path) -> None:
    before = Snapshot.take(runs_dir)
    pid = int(subprocess.check_output([sys.executable, "-c", ORPHANING]))
    try:
        assert [line.split(" (")[0] for line in before.leftovers_after(NOW_S)] == [f"process {pid}"]
    finally:
        os.kill(pid, signal.SIGKILL)
    assert before.leftovers_after(SOON_S) == []


def test_an_orphan_of_another_test_is_the_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an orphan that a test has left, when later ones look and remember that it is not theirs
    monkeypatch.setattr("leaks.SETTLED_S", 0.0)
    here, later = Snapshot.take(tmp_path), Snapshot.take(tmp_path / "later")
    env = {**os.environ, "KOUROU_RUNS_DIR": str(tmp_path / "earlier")}
    pid = int(subprocess.check_output([sys.executable, "-c", ORPHANING], env=env))
    try:
        until(lambda: psutil.Process(pid).environ(), SOON_S, "its environment, which is set last when a program begins")
        assert [later.leftovers() for _ in range(3)] == [[], [], []]
        # Then the session still finds it
        assert [line.split(" (")[0] for line in here.leftovers()] == [f"process {pid}"]
    finally:
        os.kill(pid, signal.SIGKILL)
    assert here.leftovers_after(SOON_S) == []


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="this system shows no shared memory as files")
def test_shared_memory_is_seen_until_it_is_unlinked(runs_dir: Path) -> None:
    before = Snapshot.take(runs_dir)
    path = SHARED_MEMORY / f"kourou-leak-{os.getpid()}"
    path.write_bytes(b"x")
    assert before.leftovers_after(NOW_S) == [f"shared memory {path}"]
    path.unlink()
    assert before.leftovers_after(SOON_S) == []
