"""What is only true in a terminal: the table that stays up to date, and the terminal ``tmux_session``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest

import kourou as lp
from cli import programs
from cli.commands import START_S, kourou
from polling import until

Tmux = Callable[..., str]

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
    pytest.mark.usefixtures("no_leaks"),
]


@pytest.fixture
def tmux(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tmux]:
    """A tmux server of the test's own."""
    folder = tempfile.mkdtemp(prefix="kourou-tmux-")  # the socket's path has to be short
    monkeypatch.setenv("TMUX_TMPDIR", folder)
    monkeypatch.delenv("TMUX", raising=False)

    def call(*words: str) -> str:
        return subprocess.run(["tmux", *words], capture_output=True, text=True, check=True, timeout=10).stdout

    yield call
    subprocess.run(["tmux", "kill-server"], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_the_watched_table_ends_with_the_run(tmux, launched):
    live = launched("make_endless", "--launch-type", "local_mp")
    watch = [sys.executable, "-m", "kourou.cli", "status", "-w", "--interval", "0.2", "--runs-dir", str(live.runs_dir)]
    tmux("new-session", "-d", "-s", "watch", "-x", "100", "-y", "30", "--", *watch)
    tmux("set-option", "-w", "-t", "=watch:", "remain-on-exit", "on")

    def screen() -> str:
        return tmux("capture-pane", "-p", "-t", "=watch:")

    def shows(*words: str) -> str:
        last = screen()
        return last if all(word in last for word in words) else ""

    until(lambda: shows("● ready", "MiB"), START_S, "the first table")
    live.kourou("stop", "-")
    try:
        last = until(lambda: shows("Pane is dead (status 0"), START_S, "the end of the table")
    except AssertionError:
        pytest.fail(f"the table did not end:\n{screen()}")

    assert last.count("last line") == 1, last  # it was redrawn in place
    assert last.count("✓ finished") == 3
    assert "stopped because: kourou stop" in last


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_every_node_has_a_window_that_stays(tmux, capfd, launch_type):
    program = programs.make_endless(clients=1)
    with program.group("phoenix #(touch x)", on_failure=lp.Restart(max_times=1)):
        program.add_node(lp.PyNode(programs.die_once))
    run = lp.launch(program, launch_type, terminal="tmux_session")
    session = run.run_id

    def windows() -> str:
        return tmux("list-windows", "-t", f"={session}", "-F", "#{window_index} #{window_name} #{pane_dead}")

    def screen(window: int) -> str:
        return tmux("capture-pane", "-p", "-J", "-t", f"={session}:{window}")

    until(lambda: "client 0 begins" in screen(1), START_S, "the client's line in its window")
    until(lambda: "starts again, attempt 2" in screen(2), START_S, "the restart")
    run.stop()
    until(lambda: windows().count(" 1\n") == 3, START_S, "the end of the windows")

    assert windows().splitlines() == ["0 ✓ server/0 1", "1 ✓ client/0 1", "2 ✓ phoenix #(touch x)/0 1"]
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

    def dead() -> bool:
        return tmux("list-windows", "-t", f"={session}", "-F", "#{pane_dead}").count("1") == 3

    until(dead, START_S, "the end of the windows")
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
