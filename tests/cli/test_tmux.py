"""What is only true in a terminal: the table that stays up to date, and the terminal ``tmux_session``."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest

import kourou as lp
from cli import programs
from cli.commands import kourou
from polling import WAIT_S, until

Tmux = Callable[..., str]

pytestmark = [
    pytest.mark.needs("tmux"),
    pytest.mark.usefixtures("no_leaks"),
]


@pytest.fixture
def tmux(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tmux]:
    """A tmux server of the test's own."""
    folder = tempfile.mkdtemp(prefix="kourou-tmux-")  # the socket's path has to be short
    monkeypatch.setenv("TMUX_TMPDIR", folder)
    for name in ("TMUX", "COLUMNS", "LINES"):  # the tmux that the tests run in, and the size of its terminal
        monkeypatch.delenv(name, raising=False)

    def call(*words: str) -> str:
        return subprocess.run(["tmux", *words], capture_output=True, text=True, check=True, timeout=10).stdout

    yield call
    subprocess.run(["tmux", "kill-server"], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_the_watched_table_ends_with_the_run(tmux, launched):
    live = launched("make_endless", "--launch-type", "local_mp")
    watch = [sys.executable, "-m", "kourou.cli", "status", "-w", "--interval", "0.2", "--runs-dir", str(live.runs_dir)]
    script = f"{shlex.join(watch)}; echo ended with $?; exec sleep 1000"
    tmux("new-session", "-d", "-s", "watch", "-x", "100", "-y", "30", "--", "sh", "-c", script)

    def shows(*words: str) -> str:
        last = tmux("capture-pane", "-p", "-t", "=watch:")
        return last if all(word in last for word in words) else ""

    until(lambda: shows("● ready", "MiB"), WAIT_S, "the first table")
    stopped = live.kourou("stop", "-")
    assert stopped.code == 0, stopped.err
    last = until(lambda: shows("ended with 0"), WAIT_S, "the end of the table")

    assert last.count("last line") == 1, last  # it was redrawn in place
    assert last.count("✓ finished") == 3
    assert f"{live.found.run_id}  ·  local_mp  ·  finished after" in last
    assert "stopped because: kourou stop" in last


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_every_node_has_a_window_that_stays(tmux, capfd, launch_type):
    program = programs.make_endless(clients=1)
    with program.group("phoenix #(touch x)", on_failure=lp.Restart(max_times=1)):
        program.add_node(lp.PyNode(programs.die_once))
    run = lp.launch(program, launch_type, terminal="tmux_session")
    session = run.run_id

    def windows() -> str:
        return tmux("list-windows", "-t", f"={session}", "-F", "#{window_index} #{window_name}")

    def screen(window: int) -> str:
        return tmux("capture-pane", "-p", "-J", "-t", f"={session}:{window}")

    until(lambda: "client 0 begins" in screen(1), WAIT_S, "the client's line in its window")
    until(lambda: "starts again, attempt 2" in screen(2), WAIT_S, "the restart")
    run.stop()
    until(lambda: windows().count("✓") == 3, WAIT_S, "the end of the windows")

    assert windows().splitlines() == ["0 ✓ server/0", "1 ✓ client/0", "2 ✓ phoenix #(touch x)/0"]
    assert "── client/0 finished (pid " in screen(1)
    assert "── phoenix #(touch x)/0 raised RuntimeError: not yet" in screen(2)
    assert "attempt 2, after" in screen(2)
    out, err = capfd.readouterr()
    assert "client 0 begins" not in out
    assert f"tmux attach -t ={session}" in err


def test_a_window_shows_that_the_launcher_died(tmux, launched):
    live = launched("make_endless", "--launch-type", "local_mp", "--terminal", "tmux_session")
    session = live.found.run_id

    live.launcher.kill()
    live.launcher.communicate()

    until(lambda: tmux("list-windows", "-t", f"={session}").count("✗") == 3, WAIT_S, "the end of the windows")
    assert "the launcher died, and server/0 with it" in tmux("capture-pane", "-p", "-t", f"={session}:0")


def test_without_tmux_nothing_is_started(monkeypatch, runs_dir):
    monkeypatch.setenv("PATH", "")

    with pytest.raises(lp.errors.LaunchError, match="needs tmux, which is not on the PATH"):
        lp.launch(programs.make_short(), "test_mt", terminal="tmux_session")

    assert not runs_dir.exists()


def test_without_libtmux_the_extra_is_named(monkeypatch, runs_dir):
    monkeypatch.setitem(sys.modules, "libtmux", None)

    outcome = kourou("run", f"{programs.__file__}:make_short", "--terminal", "tmux_session")

    assert outcome.code == 2
    assert "pip install 'kourou[tmux]'" in outcome.err
    assert not runs_dir.exists()
