"""The commands on runs that have ended, each in its own way; and on those whose launcher was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

import kourou as lp
from cli import programs
from cli.commands import kourou, start
from kourou.runtime.files.append_file import AppendFile
from kourou.runtime.files.rotation import Rotation
from kourou.runtime.files.run_info import INFO_FILE
from kourou.runtime.monitoring.run_search import choose_run
from polling import WAIT_S, all_gone, until

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_finished_run_keeps_its_status_and_its_logs():
    run = lp.launch(programs.make_short("one\ttwo"), "test_mt")
    run.wait()

    status = kourou("status", "--json").json

    assert (status["state"], status["nodes"][0]["state"]) == ("finished", "FINISHED")
    assert kourou("logs").out == "[speaker/0] one\ttwo\n"
    assert kourou("logs", "-", "-f").out == "[speaker/0] one\ttwo\n"
    assert "✓ finished" in kourou("status").out
    assert "finished, 1 finished" in kourou("stop", "-").out
    assert "1 ended: kourou ps --all" in kourou("ps").out
    (listed,) = kourou("ps", "--all", "--json").json
    assert (listed["state"], listed["folder"]) == ("finished", str(run.folder))
    assert kourou("logs", str(run.folder)).out == "[speaker/0] one\ttwo\n"  # the folder, as errors name it
    assert listed["took_s"] >= 0


def test_logs_that_were_rotated_are_shown_and_told_where_nothing_is_found():
    # Given a run whose log was rotated
    run = lp.launch(programs.make_short("one"), "test_mt")
    run.wait()
    (run.folder / "output.log").rename(run.folder / "output.log.1")
    (run.folder / "output.log").write_text("2026-11-29T07:00:00.000+00:00\tspeaker/0\ttwo\n")
    # When it is asked for, then the backup's lines come first
    assert kourou("logs").out == "[speaker/0] one\n[speaker/0] two\n"
    assert kourou("logs", "-", "-n", "2").out == "[speaker/0] one\n[speaker/0] two\n"
    # And what is not there may have been printed before
    told = kourou("logs", "-", "-g", "three").err
    assert "nothing of that kind was printed by the nodes" in told
    assert f"nodes' own logs are in {run.folder / 'logs'}" in told
    # Unless nothing was rotated
    for log in run.folder.glob("output.log*"):
        log.unlink()
    assert kourou("logs").err == f"kourou: nothing was printed by the nodes of run {run.run_id}\n"


def test_who_follows_logs_is_told_where_lines_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a live run whose one node has said something, and somebody who follows what it says
    run = lp.launch(programs.make_endless(clients=0), "test_mt")  # a client prints where kourou does: it is one process
    log = AppendFile(run.folder / "output.log", errors="strict", rotation=Rotation(max_bytes=1, backup_count=1))
    log.append("2026-11-29T07:00:00.000+00:00\tserver/0\t0")

    def fall_behind(_: float) -> None:
        for number in range(1, 5):
            log.append(f"2026-11-29T07:00:00.000+00:00\tserver/0\t{number}")
        log.close()
        run.stop()
        run.wait()

    monkeypatch.setattr("kourou.cli.status.logs.time.sleep", fall_behind)
    # When the log is rotated, between two looks, more often than backups are kept
    first, missing, *last = kourou("logs", "-", "server", "-f").out.splitlines()
    # Then that is said in its place, in other words than the node's
    assert (first, last) == ("0", ["3", "4"])
    assert missing.startswith("[kourou] lines may be missing here: ")


def test_a_failed_run_shows_why():
    run = lp.launch(programs.make_failing(), "test_mp")
    with pytest.raises(lp.errors.ProgramFailed):
        run.wait()

    shown = kourou("status").out

    assert "failed after" in shown
    assert "✗ arsonist/0 raised RuntimeError: the disk is on fire" in shown
    assert kourou("logs", "-", "-n", "1").out == "[arsonist/0] RuntimeError: the disk is on fire\n"
    assert kourou("call", "-", "arsonist", "x").code == 1
    for words in [("debug", "-", "arsonist"), ("restart", "-", "arsonist"), ("scale", "-", "arsonist=2"), ("trace",)]:
        refused = kourou(*words).err
        assert "has ended (failed): kourou logs " in refused
        assert "failed to connect" not in refused


def test_a_node_that_was_restarted_shows_its_attempt():
    lp.launch(programs.make_flaky(), "test_mp").wait()

    (node,) = kourou("status", "--json").json["nodes"]

    assert (node["state"], node["attempt"]) == ("FINISHED", 2)
    assert "attempt 2" in kourou("logs", "-", "-n", "1").out


@pytest.mark.parametrize("first", ["launcher", "nodes"])
def test_a_run_whose_launcher_was_killed_is_said_to_be_dead(first, launched, tmp_path):
    live = launched("make_endless", "--launch-type", "local_mp")
    nodes = [psutil.Process(node.pid) for node in live.found.status().nodes]
    zygote = psutil.Process(nodes[0].ppid())
    until(lambda: live.kourou("logs", "-", "client/0").out == "client 0 begins\n", 20, "the node's first line")
    an_hour_ago = time.time() - 3600
    for path in live.found.path.rglob("*"):
        os.utime(path, (an_hour_ago, an_hour_ago))  # it has said nothing for long
    mark = tmp_path / "mark"
    mark.touch()
    if first == "nodes":  # which may hear of it, and end, before their zygote does
        live.launcher.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(live.launcher.pid).status() == psutil.STATUS_STOPPED, WAIT_S, "it to be stopped")
        for node in nodes:
            node.kill()
        until(lambda: not zygote.children(), WAIT_S, "the end of the nodes")
    live.launcher.kill()
    live.launcher.communicate()
    all_gone(nodes, WAIT_S)
    all_gone([zygote], WAIT_S)

    assert live.found.ended_at >= mark.stat().st_mtime  # no matter when it has said anything last
    assert live.kourou("clean", "--older-than", "30m", "--json").json["runs"] == []
    status = live.kourou("status", "--json").json

    assert status["state"] == "dead"
    assert {node["state"] for node in status["nodes"]} == {"KILLED"}
    assert "dead launcher" in live.kourou("ps", "--all").out
    assert "its launcher died" in live.kourou("status").out
    assert live.kourou("ps", "--json").json == []
    stopped = live.kourou("stop", "-")
    assert stopped.code == 0
    assert "is dead, and nothing of it is left" in stopped.out
    assert live.kourou("logs", "-", "client/0", "-f").out == "client 0 begins\n"
    for words in [("debug", "-", "client/0"), ("profile", "-", "client/0"), ("metrics",)]:
        assert "has ended, since its launcher died: kourou logs " in live.kourou(*words).err
    assert live.kourou("clean", "--older-than", "0").code == 0
    assert not live.found.path.exists()


@pytest.mark.parametrize("trace", ["output.log", "output.log.1", "metrics.jsonl", "checkpoints/learner/0"])
def test_a_run_without_a_last_word_has_ended_when_it_last_left_a_trace(trace):
    """As after a power cut: neither its launcher nor a zygote could tell."""
    lp.launch(programs.make_short(), "test_mt").wait()
    found = choose_run("-")
    (found.path / "status.json").unlink()
    (found.path / trace).parent.mkdir(parents=True, exist_ok=True)
    (found.path / trace).touch()
    week, day = (time.time() - days * 86_400 for days in (7, 1))
    for path in found.path.rglob("*"):
        os.utime(path, (week, week))
    os.utime(found.path / trace, (day, day))

    assert kourou("clean", "--older-than", "2d", "--json").json["runs"] == []
    (listed,) = kourou("ps", "--all", "--json").json
    assert (listed["state"], listed["ended_at"]) == ("dead", pytest.approx(day))


def test_a_pid_that_now_means_another_process_is_no_launcher():
    lp.launch(programs.make_short(), "test_mt").wait()
    found = choose_run("-")
    (found.path / "status.json").unlink()
    (found.path / "token").write_text("as if it had been killed")
    assert found.state.value == "running"  # this very process is said to be its launcher

    info = json.loads((found.path / INFO_FILE).read_text())
    (found.path / INFO_FILE).write_text(json.dumps({**info, "pid_start": "1"}))

    assert choose_run("-").state.value == "dead"


def test_a_run_of_another_host_is_left_alone():
    lp.launch(programs.make_short(), "test_mt").wait()
    found = choose_run("-")
    (found.path / "status.json").unlink()
    info = json.loads((found.path / INFO_FILE).read_text())
    (found.path / INFO_FILE).write_text(json.dumps({**info, "host_id": "another", "host": "far-away"}))

    assert kourou("ps", "--json").json[0]["state"] == "elsewhere"
    assert kourou("clean", "--older-than", "0", "--json").json["runs"] == []
    assert "was launched on far-away: stop it there" in kourou("stop", "-").err
    assert "look there" in kourou("status").out


def test_clean_deletes_old_runs_and_nothing_else(runs_dir):
    lp.launch(programs.make_short(), "test_mt").wait()
    run_id = choose_run("-").run_id
    (runs_dir / "notes").mkdir()
    (runs_dir / "notes" / "run.json").write_text("{}")
    (runs_dir / "copy").symlink_to(runs_dir / run_id)

    kept = kourou("clean", "--older-than", "1h")
    tried = kourou("clean", "--older-than", "0", "--dry-run")
    cleaned = kourou("clean", "--older-than", "0s")

    assert "no runs in" in kept.out
    assert f"would delete {run_id}" in tried.out
    assert f"deleted {run_id}" in cleaned.out
    assert sorted(path.name for path in runs_dir.iterdir()) == ["copy", "notes"]
    assert kourou("clean", "--older-than", "soon").code == 2


def test_two_runs_of_a_name_have_to_be_told_apart():
    for _ in range(2):
        lp.launch(programs.make_short(), "test_mt").wait()

    outcome = kourou("status", "short")

    assert outcome.code == 2
    assert "may mean any of 2 runs; type more of its name" in outcome.err


def test_a_locale_that_knows_ascii_only_gets_a_substitute_for_what_it_has_no_word_for(runs_dir):
    lp.launch(programs.make_short("Köln"), "test_mt").wait()
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

    def said(*words):
        command = start(*words, env=env)
        out, err = command.communicate(timeout=WAIT_S)
        assert (command.returncode, err) == (0, ""), (out, err)
        return out

    assert "speaker/0" in said("status", "-")
    assert "finished" in said("ps", "--all")
    assert said("logs", "-") == "[speaker/0] K\\xf6ln\n"
    assert json.loads(said("logs", "-", "--json"))["text"] == "Köln"
    assert json.loads(said("status", "-", "--json"))["nodes"]


@pytest.mark.parametrize("words", [("ps",), ("status", "--nosuch"), ("--help",)])
def test_a_shell_may_have_closed_what_commands_write_to(words, runs_dir):
    shell = f'"{sys.executable}" -m kourou.cli "$@" <&- >&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *words], capture_output=True, text=True, timeout=WAIT_S, check=False
    )

    assert done.returncode == (2 if "--nosuch" in words else 0), done.stderr
    assert "Traceback" not in done.stderr
