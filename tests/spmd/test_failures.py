"""Workers that fail: who is to blame, what is told of it, and that nobody is left."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil

from kourou.errors import RemoteError, SerializationError
from kourou.spmd import Launcher, WorkerFailedError
from optional import pytest
from polling import WAIT_S, alive, marked, until
from spmd import functions

START_S = 60.0  # an interpreter, and one more that imports torch, on a busy machine


@pytest.mark.parametrize(
    "how", ["SIGKILL", "SIGSEGV", "SIGTERM", "os._exit(0)", "os._exit(9)", "sys.exit(3)", "sys.exit(0)"]
)
def test_every_way_to_die_is_typed_and_soon_known(gloo2: Launcher, how: str) -> None:
    # Given: no time-out would tell of it
    gloo2.worker_timeout_s = 600
    # When
    with pytest.raises(WorkerFailedError) as caught:
        gloo2.run(functions.die, how)
    # Then
    error = caught.value
    assert (error.rank, error.hostname, error.local_rank) == (1, "localhost", 1)
    if how.startswith("SIG"):
        assert (error.signal, error.code) == (how, None)
    else:
        assert (error.signal, error.code) == (None, int(how.partition("(")[2][:-1]))
    assert "last words" in error.last_lines
    assert "last words" in str(error)
    assert pickle.loads(pickle.dumps(error)).rank == 1


def test_a_rank_that_does_not_come_to_a_collective_is_named(gloo2: Launcher, tmp_path: Path) -> None:
    # Given ranks that wait for each other for so long
    gloo2.worker_timeout_s = 5
    lines: list[str] = []
    gloo2.set_on_output(lambda line: lines.append(line.text))
    # When one of them is at something else
    with pytest.raises(RuntimeError, match="(?i)timed out") as caught:
        gloo2.run(functions.stay_away, tmp_path / "there")
    # Then the error is of one that waited, and says for whom
    assert (tmp_path / "there").exists()
    assert vars(caught.value)["rank"] == 0
    told = "rank 0 (localhost[0]) waited in vain, and still at work were rank 1 (localhost[1]): a rank"
    assert any(line.startswith(told) for line in lines)
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__[-1].startswith(told)


def test_an_exception_keeps_its_class_and_what_it_holds(gloo2: Launcher) -> None:
    with pytest.raises(functions.OddError) as caught:
        gloo2.run(functions.raise_odd_error)
    assert isinstance(caught.value, RemoteError)
    assert caught.value.code == 7
    assert str(caught.value) == "odd (7)"


def test_a_result_that_cannot_be_sent_is_named(gloo2: Launcher) -> None:
    with pytest.raises(
        SerializationError, match=r"not_picklable of rank [01] \(localhost\[[01]\]\): result: a _thread.lock cannot"
    ):
        gloo2.run(functions.not_picklable)


def test_an_argument_that_cannot_be_sent_is_named_before_anything_starts(gloo2: Launcher) -> None:
    with pytest.raises(SerializationError, match="lock"):
        gloo2.run(functions.variables, {"a lock": threading.Lock()})  # type: ignore[call-overload]


def test_the_zygote_survives_failures(gloo2: Launcher) -> None:
    zygote = gloo2.run(functions.parent).rank(0)
    with pytest.raises(WorkerFailedError):
        gloo2.run(functions.die, "SIGKILL")
    assert gloo2.run(functions.parent).rank(0) == zygote


@pytest.mark.usefixtures("without_torch")  # which each zygote would import
def test_a_zygote_that_was_killed_is_replaced() -> None:
    with Launcher(["localhost"], workers_per_host=2, backend=None).set_logging_handlers(None) as launcher:
        zygote = launcher.run(functions.parent).rank(0)
        os.kill(zygote, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(zygote), WAIT_S)
        assert launcher.run(functions.parent).rank(0) != zygote


def test_retries_are_for_infrastructure_only(gloo2: Launcher, tmp_path: Path) -> None:
    gloo2.retries = 1
    with pytest.raises(functions.OddError):
        gloo2.run(functions.raise_odd_error)
    with pytest.raises(WorkerFailedError):
        gloo2.run(functions.fail_until, tmp_path / "attempts", 3)
    assert (tmp_path / "attempts").read_text(encoding="ascii") == "2"


LAUNCHER = """
    import os, sys, time
    import kourou.spmd

    def work(folder):
        import subprocess
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        open(os.path.join(folder, os.environ["RANK"]), "w").close()
        time.sleep(600)

    kourou.spmd.Launcher(["localhost"], workers_per_host=2, backend=None).run(work, sys.argv[1])
"""


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_is_left_when_the_launcher_ends(tmp_path: Path, runs_dir: Path, number: signal.Signals) -> None:
    # Given a launcher whose workers have children
    script, folder = tmp_path / "launcher.py", tmp_path / "started"
    script.write_text(textwrap.dedent(LAUNCHER), encoding="utf-8")
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, str(script), str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as launcher:
        try:
            until(lambda: len(list(folder.iterdir())) == 2, START_S)
            assert len(marked(runs_dir)) >= 6
            # When
            launcher.send_signal(number)
            # Then
            until(lambda: not marked(runs_dir), WAIT_S)
            assert launcher.wait(WAIT_S) != 0
        finally:
            launcher.kill()
    assert not any(alive(process) for process in marked(runs_dir))


SUBMITTER = """
    import signal, sys, time
    from pathlib import Path
    import kourou.spmd

    def work(folder):
        signal.signal(signal.SIGTERM, lambda *_: Path(folder, f"ending-{time.monotonic_ns()}").touch())
        Path(folder, f"begun-{time.monotonic_ns()}").touch()
        while True:
            time.sleep(1)

    launcher = kourou.spmd.Launcher(["localhost"], workers_per_host=2, backend=None).set_logging_handlers(None)
    launcher.submit(work, sys.argv[1])
"""


@pytest.mark.usefixtures("without_torch")
def test_ctrl_c_at_the_launchers_exit_ends_the_ranks_however_often_it_comes(tmp_path: Path, runs_dir: Path) -> None:
    # Given a script that has submitted work, and come to its end; workers do not end when they are asked to
    script, folder = tmp_path / "launcher.py", tmp_path / "told"
    script.write_text(textwrap.dedent(SUBMITTER), encoding="utf-8")
    folder.mkdir()
    command = [sys.executable, str(script), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as launcher:
        try:
            until(lambda: len(list(folder.glob("begun-*"))) == 2, START_S)
            # When Ctrl-C comes, and again while they are given time
            launcher.send_signal(signal.SIGINT)
            until(lambda: len(list(folder.glob("ending-*"))) == 2, WAIT_S)
            launcher.send_signal(signal.SIGINT)
            said = launcher.communicate(timeout=WAIT_S)[0]
        finally:
            launcher.kill()
    # Then all of them end, and that the work was not done is told, and nothing else
    until(lambda: not marked(runs_dir), WAIT_S)
    assert said == "kourou: what the script had left running was interrupted by Ctrl-C\n"
    assert launcher.returncode == 130
