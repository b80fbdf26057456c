"""One test for each weakness of torchrunx 0.4.0 that was found by reading or by running it, in that list's order."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import CancelledError
from pathlib import Path

import psutil

from kourou import errors
from kourou.runtime.process.process_table import alive
from kourou.spmd import DEFAULT_ENV_VARS_FOR_COPY, AgentFailedError, Launcher, WorkerFailedError
from kourou.spmd.worker.environment import user_variables
from optional import pytest
from polling import WAIT_S, until
from spmd import functions

LONG_S = 120.0  # for a zygote that imports torch
pytestmark = pytest.mark.timeout(240)  # zygotes import torch, and a machine may be busy


def test_1_an_exception_on_one_rank_is_known_while_the_others_sit_in_a_collective(gloo2: Launcher) -> None:
    # Given: the time-out of the collective is far away
    gloo2.worker_timeout_s = 600
    gloo2.run(functions.rank)
    # When
    with pytest.raises(ValueError, match="rank one has had enough") as caught:
        gloo2.run(functions.fail_in_a_collective)
    # Then
    error = caught.value
    assert isinstance(error, errors.RemoteError)
    assert (error.rank, error.host, error.local_rank) == (1, "localhost", 1)  # type: ignore[attr-defined]
    assert "in fail_in_a_collective" in error.remote_traceback
    assert "rank 1 (on localhost)" in str(error.__cause__)


def test_2_the_death_of_a_worker_ends_the_others_and_what_they_started(gloo2: Launcher, tmp_path: Path) -> None:
    # Given a worker with a child in a session of its own, when its peer dies
    path = tmp_path / "child"
    with pytest.raises(WorkerFailedError, match="exited with code 5"):
        gloo2.run(functions.die_with_grandchild, path)
    # Then
    child = int(path.read_text(encoding="ascii"))
    until(lambda: not alive(child), WAIT_S)


def test_3_a_worker_that_leaves_with_code_0_has_failed(gloo2: Launcher) -> None:
    with pytest.raises(WorkerFailedError, match="rank 1 on localhost exited with code 0 before its function had"):
        gloo2.run(functions.die, "os._exit(0)")


@pytest.mark.usefixtures("without_torch")  # which this machine's zygote would import, for nothing
def test_4_a_host_that_cannot_be_reached_is_an_error_at_once_and_nothing_is_left() -> None:
    with Launcher(["localhost", "no-such-host.invalid"], workers_per_host=1, backend="gloo", agent_timeout_s=5) as two:
        with pytest.raises(AgentFailedError, match=r"no-such-host\.invalid") as caught:
            two.run(functions.rank)
        assert caught.value.hostname == "no-such-host.invalid"


MAIN_CLASSES = """
    import kourou.spmd

    class Answer:
        def __init__(self, value): self.value = value

    class Refusal(Exception):
        def __init__(self, why, *, code):
            super().__init__(why)
            self.code = code

    def work(refuse):
        if refuse:
            raise Refusal("no", code=7)
        return Answer(42)

    launcher = kourou.spmd.Launcher(["localhost"], workers_per_host=1, backend=None)
    answer = launcher.run(work, refuse=False).rank(0)
    assert type(answer) is Answer and answer.value == 42, answer
    try:
        launcher.run(work, True)
    except Refusal as error:
        assert error.code == 7 and error.args == ("no",)
        print("both came back")
"""


@pytest.mark.usefixtures("without_torch")
def test_5_results_and_exceptions_of_main_come_back(tmp_path: Path) -> None:
    # Given a script without a __main__ guard, in a place with a hostile name
    script = tmp_path / "a 'script' of $HOME.py"
    script.write_text(textwrap.dedent(MAIN_CLASSES), encoding="utf-8")
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ended.stdout, ended.returncode) == ("both came back\n", 0), ended.stderr


def test_6_the_callers_own_process_group_is_left_alone_and_runs_may_be_nested_and_overlap(gloo2: Launcher) -> None:
    # Given two runs at once, in one of which a rank, with a group of its own, is the caller of another one
    gloo2.workers_per_host = 3
    first, second = gloo2.submit(functions.nested_in_rank_0), gloo2.submit(functions.sum_of_ranks)
    # Then all get their results, and the caller's group is as it was
    assert first.result(LONG_S).rank(0) == ([(0, 1.0), (1, 1.0)], (0, 3.0))
    assert second.result(LONG_S).results == {"localhost": [(rank, 3.0) for rank in range(3)]}


def test_7_an_env_file_works_whatever_the_systems_shell_is(gloo2: Launcher, tmp_path: Path) -> None:
    # Given what only bash would take, and no shell at all
    path = tmp_path / "an env's file"
    path.write_text("export A='1 2'\nB=${A}3 # comment\n", encoding="utf-8")
    gloo2.env_file = path
    assert gloo2.run(functions.variables, "A", "B").rank(1) == {"A": "1 2", "B": "1 23"}


def listening(process: psutil.Process) -> list[str]:
    found = process.net_connections(kind="inet")
    return [connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN]


def is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None  # "::ffff:127.0.0.1"
    return (mapped or address).is_loopback


def test_8_nothing_of_a_local_run_listens_beyond_loopback_and_no_name_is_looked_up(
    gloo2: Launcher, tmp_path: Path
) -> None:
    # Given workers in the middle of their work
    running = gloo2.submit(functions.announce_and_wait, tmp_path)
    try:
        pids = [tmp_path / "0.pid", tmp_path / "1.pid"]
        until(lambda: all(p.exists() and p.read_text(encoding="ascii") for p in pids), WAIT_S)
        # When
        workers = [psutil.Process(int(path.read_text(encoding="ascii"))) for path in pids]
        addresses = {address for process in (psutil.Process(), *workers) for address in listening(process)}
        # Then
        assert addresses
        assert all(is_loopback(address) for address in addresses), addresses
    finally:
        running.cancel()
        with pytest.raises(CancelledError):
            running.result(WAIT_S)


def test_9_no_line_is_lost_and_runs_of_one_second_have_folders_of_their_own(gloo2: Launcher, log_dir: Path) -> None:
    # Given
    gloo2.set_logging_handlers("auto")
    lines = 20_000
    # When
    for _ in range(2):
        with pytest.raises(WorkerFailedError, match="SIGKILL"):
            gloo2.run(functions.talk_and_crash, lines)
    # Then
    folders = sorted(log_dir.iterdir())
    assert len(folders) == 2
    for folder in folders:
        whole: list[int] = []
        for local_rank in range(2):
            text = (folder / f"localhost[{local_rank}].log").read_text(encoding="utf-8").splitlines()
            if text and text[-1].endswith(":INFO: last words"):
                whole.append(len(text))
        assert lines + 1 in whole  # the other one was ended with its peer


def test_10_nothing_is_signalled_after_it_was_reaped(gloo2: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the launcher's own way to signals
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    # When all is well
    gloo2.run(functions.rank)
    # Then nothing was: only a worker's parent, the zygote, signals it, and only until it has reaped it
    assert sent == []


def test_11_runs_can_be_submitted_cancelled_and_repeated_and_gpus_can_be_pinned(
    gloo2: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run that lasts, when it is cancelled
    running = gloo2.submit(functions.announce_and_wait, tmp_path)
    until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, WAIT_S)
    assert running.running()
    assert running.cancel()
    with pytest.raises(CancelledError):
        running.result(WAIT_S)
    assert running.cancelled()
    # Given a failure of the infrastructure, when there are retries
    gloo2.retries = 2
    assert gloo2.run(functions.fail_until, tmp_path / "attempts", 3).results == {"localhost": [0, 1]}
    # Given GPUs, when each worker wants its own
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    gloo2.gpus_per_worker = 1
    answers = gloo2.run(functions.variables, "CUDA_VISIBLE_DEVICES").results["localhost"]
    assert answers == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "5"}]


def test_the_default_patterns_really_match_ld_library_path() -> None:
    given = {"LD_LIBRARY_PATH": "/x", "HOME": "/h", "NCCL_DEBUG": "INFO", "PYTHONPATH": "/p", "PATH": "/bin"}
    copied = user_variables(given, copy=DEFAULT_ENV_VARS_FOR_COPY, extra={"EXTRA": "1"}, env_file=None)
    assert copied == {key: value for key, value in given.items() if key != "HOME"} | {"EXTRA": "1"}


def test_the_machines_name_is_not_needed(gloo2: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a launcher whose name leads nowhere
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror("no DNS here")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(socket, "getfqdn", lambda *_: "no-such-host.invalid")
    assert gloo2.run(functions.sum_of_ranks).rank(0) == (0, 1.0)


def test_signals_and_threads_of_the_caller_are_as_before(gloo2: Launcher) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    before = threading.active_count()
    gloo2.run(functions.rank)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == handlers
    until(lambda: threading.active_count() <= before + 1, WAIT_S)  # the supervisor's thread
