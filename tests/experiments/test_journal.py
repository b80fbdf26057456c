"""The journal: what was committed is there, and who may write it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from kourou import errors
from kourou.experiments import SweepBusy, SweepError
from kourou.experiments.journal.journal import (
    Journal,
    SweepLock,
    declare,
    find_launcher,
    read_launches,
    read_records,
)
from kourou.experiments.journal.requests import ask, take_requests
from kourou.experiments.journal.run_records import RunRecord, RunState
from strangers import NOBODY, needs_root

RUN = {"run_id": "a-0", "name": "a", "folder": "/f", "setting": "a", "repeat": 0, "seed": 1, "params": {"x": 1}}


def test_a_runs_state_is_what_its_events_made_of_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.launch("sweep-x-1")
    declare(journal, [RUN])
    journal.append("started", "a-0", attempt=1, slot=0, gpus=["2"], host="h")
    journal.append("running", "a-0", pid=12)
    journal.append("ended", "a-0", state="FAILED", code=3, signal=None, cause="exited with 3", last_lines=["oh"])
    journal.append("retrying", "a-0", cause="exit", not_before=5.0)
    journal.commit()
    journal.close()
    # when another process reads it
    (record,) = read_records(tmp_path).values()
    assert (record.state, record.attempt, record.code, record.last_lines) == (RunState.PENDING, 1, 3, ("oh",))
    assert (record.retries, record.not_before, record.gpus, record.seed) == ({"exit": 1}, 5.0, ("2",), 1)
    assert [launch.launch_id for launch in read_launches(tmp_path)] == ["sweep-x-1"]


@pytest.mark.parametrize(
    ("cause", "said", "told"),
    [
        ("exited with 1", "ValueError: no", "exited with 1: ValueError: no"),
        ("exited with 1", "", "exited with 1"),
        (
            "could not start: no program 'x'",
            "kourou: cannot start 1a-0: no program 'x'",
            "could not start: no program 'x'",
        ),
    ],
)
def test_how_a_run_ended_is_told_once(cause: str, said: str, told: str) -> None:
    record = RunRecord(run_id="1a", name="r", folder="f", code=127, cause=cause, last_lines=(said,))
    assert record.how_it_ended == told


def test_what_was_not_committed_is_not_in_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    declare(journal, [RUN])
    journal.commit()
    journal.append("started", "a-0", attempt=1)
    journal.close()
    assert read_records(tmp_path)["a-0"].state is RunState.PENDING


def test_a_run_is_declared_once_and_again_where_it_changed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    declare(journal, [RUN, RUN])
    declare(journal, [{**RUN, "folder": "/g"}])
    journal.commit()
    rows = journal._db.execute("SELECT kind, json_extract(data, '$.folder') FROM events").fetchall()
    journal.close()
    assert rows == [("declared", "/f"), ("declared", "/g")]


def test_one_process_at_a_time_is_the_launcher(tmp_path: Path) -> None:
    assert find_launcher(tmp_path) is None
    with SweepLock(tmp_path):
        assert find_launcher(tmp_path) == {"pid": os.getpid(), "host": os.uname().nodename}
        with pytest.raises(SweepBusy, match=f"is being run by pid {os.getpid()} on"):
            SweepLock(tmp_path)
    assert find_launcher(tmp_path) is None
    SweepLock(tmp_path).close()


def test_a_killed_launcher_holds_nothing_and_its_commits_stay(tmp_path: Path) -> None:
    code = """
import json, os, signal, sys, pathlib
from kourou.experiments.journal.journal import Journal, SweepLock, declare
folder = pathlib.Path(sys.argv[1])
lock = SweepLock(folder)
journal = Journal(folder)
declare(journal, [json.loads(sys.argv[2])])
journal.commit()
journal.append("started", "a-0", attempt=1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), json.dumps(RUN)], check=False)
    assert done.returncode == -9
    assert read_records(tmp_path)["a-0"].state is RunState.PENDING
    with SweepLock(tmp_path):
        journal = Journal(tmp_path)
        assert list(journal.records) == ["a-0"]
        journal.close()


def test_what_is_no_sweep_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="there is no sweep"):
        read_records(tmp_path)
    (tmp_path / "sweep.sqlite").write_text("this is no database" * 100)
    with pytest.raises(SweepError, match="cannot be used"):
        read_records(tmp_path)


def mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, fstype: str) -> None:
    """Let the folder be on another file system."""
    real = psutil.disk_partitions(all=True)
    mount = real[0]._replace(mountpoint=str(folder), fstype=fstype)
    monkeypatch.setattr("kourou.experiments.journal.journal.psutil.disk_partitions", lambda *, all: [*real, mount])  # noqa: A006 - psutil's


@pytest.mark.parametrize(("fstype", "mode"), [("ext4", "wal"), ("nfs4", "truncate"), ("lustre", "truncate")])
def test_on_a_disk_that_other_hosts_see_nothing_of_the_journal_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fstype: str, mode: str
) -> None:
    # Given a journal that an earlier launcher made here
    Journal(tmp_path).close()
    mounted(monkeypatch, tmp_path, fstype)
    # When
    journal = Journal(tmp_path)
    declare(journal, [RUN])
    journal.commit()
    # Then
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == (mode,)
    assert (tmp_path / "sweep.sqlite-shm").exists() == (mode == "wal")
    assert list(read_records(tmp_path)) == ["a-0"]
    journal.close()


def test_a_disk_without_locks_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a folder over NFS, and nothing that keeps its locks
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    mounted(monkeypatch, tmp_path, "nfs")
    monkeypatch.setattr("kourou.experiments.journal.journal.fcntl.flock", no_locks)
    # Then nobody is said to run the sweep
    with pytest.raises(
        SweepError, match=r"cannot be locked: No locks available.*\(nfs\) gives no locks.*lockd.*sweep-dir"
    ):
        SweepLock(tmp_path)
    with pytest.raises(SweepError, match="gives no locks"):
        find_launcher(tmp_path)


def test_a_journal_that_sqlite_cannot_lock_names_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(monkeypatch, tmp_path, "nfs4")
    (tmp_path / "sweep.sqlite").write_bytes(b"no journal" * 100)
    with pytest.raises(SweepError, match=r"file is not a database \(on nfs4, whose locks SQLite needs"):
        Journal(tmp_path)


FULL = r"sweep.sqlite cannot be used: .* 0 (KiB|files) .*are free on the disk of .*Make room.*goes on where it was"


@pytest.mark.parametrize("small_disk", ["size=300k", "size=300k,nr_inodes=2", "size=16k"], indirect=True)
def test_a_full_disk_is_told_with_what_is_free_and_what_to_do(small_disk: Path) -> None:
    # Given a disk with no room for more blocks, or more files, or for the memory that SQLite shares there
    # When a journal is written there, then that is told, whatever SQLite calls it
    with pytest.raises(SweepError, match=FULL):
        _write_much(small_disk)


def _write_much(folder: Path) -> None:
    with contextlib.closing(Journal(folder)) as journal:
        for number in range(1000):
            declare(journal, [{**RUN, "run_id": f"a-{number}", "name": "a" * 300}])
            journal.commit()


@needs_root
def test_another_user_may_read_it_and_not_be_its_launcher() -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        with contextlib.closing(Journal(top)) as journal:
            journal.append("declared", "a-0", name="a", folder="a")
            journal.commit()
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                os.setgroups([])
                os.setuid(NOBODY)
                assert [record.name for record in read_records(top).values()] == ["a"]
                with pytest.raises(SweepError, match="cannot be changed"):
                    SweepLock(top)
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_request_that_cannot_be_read_now_is_taken_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a request, and a process that has no descriptor left for a moment
    ask(tmp_path, "stop")
    with monkeypatch.context() as patch:

        def refuse(_: Path) -> bytes:
            raise OSError(errno.EMFILE, "Too many open files")

        patch.setattr(Path, "read_bytes", refuse)
        assert take_requests(tmp_path) == []
    # When it has, then the request is taken, once
    assert [request.kind for request in take_requests(tmp_path)] == ["stop"]
    assert take_requests(tmp_path) == []
