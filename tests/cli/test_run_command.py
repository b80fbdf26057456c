"""``kourou run`` and ``kourou plan``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from cli.commands import PROGRAMS, kourou, start
from kourou.runtime.monitoring.run_search import find_runs
from polling import WAIT_S


def _run(*words: str) -> tuple[int, str, str]:
    process = start("run", *words)
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_a_program_that_finishes_gives_0(launch_type):
    code, out, err = _run(f"{PROGRAMS}:make_short", "--launch-type", launch_type, "--", "--word=goodbye")

    assert (code, out) == (0, "[speaker/0] goodbye\n")
    assert "finished after" in err


class _Webhook(BaseHTTPRequestHandler):
    told: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self):
        self.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_program_that_fails_gives_1_and_its_error_and_a_webhook_is_told():
    with HTTPServer(("127.0.0.1", 0), _Webhook) as hook:
        hook.timeout = WAIT_S
        serving = threading.Thread(target=hook.handle_request)
        serving.start()
        options = ("--launch-type", "local_mp", "--terminal", "output_to_files")
        url = f"http://127.0.0.1:{hook.server_port}/hook"
        code, out, err = _run(f"{PROGRAMS}:make_failing", *options, "--notify", url)
        serving.join()

    assert (code, out) == (1, "")
    (told,) = _Webhook.told
    assert (told["program"], told["state"]) == ("failing", "failed")
    assert "arsonist/0 raised RuntimeError: the disk is on fire" in told["text"]
    assert "arsonist/0 raised RuntimeError: the disk is on fire" in err
    assert "run folder: " in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([f"{PROGRAMS}:make_short", "--notify", "file:///etc"], "--notify takes an http:// or https:// URL"),
        ([f"{PROGRAMS}:make_nothing"], "it has to return an lp.Program"),
        ([f"{PROGRAMS}:nope"], "has no function 'nope'; it has call_for_ever, "),
        ([f"{PROGRAMS}:make_shrt"], "has no function 'make_shrt'; did you mean 'make_short'?"),
        ([f"{PROGRAMS}:MADE"], "MADE is an lp.Program: name a function that makes it, and returns it"),
        (["--", "--word=x"], "write MODULE:FUNCTION -- --word=x"),
        (["no.such.module:make"], "there is no module 'no.such.module'"),
        (["nonsense"], "write MODULE:FUNCTION"),
        ([f"{PROGRAMS}:make_short", "--launch-type", "banana"], "'banana' is not a launch type"),
        (
            [f"{PROGRAMS}:make_short", "--terminal", "xterm"],
            "known are current_terminal, output_to_files, tmux_session",
        ),
        ([f"{PROGRAMS}:make_short", "--nonsense"], "No such option"),
        ([f"{PROGRAMS}:make_short", "--", "--wordd=x"], "there is no argument --wordd; did you mean --word?"),
        ([f"{PROGRAMS}:make_endless", "--", "--clients=many"], "Error parsing --clients"),
    ],
)
def test_a_mistake_gives_2_and_starts_nothing(runs_dir, words, message):
    outcome = kourou("run", *words)

    assert outcome.code == 2
    assert message in outcome.err
    assert not runs_dir.exists()


@pytest.mark.parametrize("words", [("run", f"{PROGRAMS}:make_short"), ("run", "programs:make"), ("sweep", "status")])
def test_in_a_folder_that_was_deleted_commands_say_so(tmp_path, runs_dir, monkeypatch, words):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    said = kourou(*words)
    assert said.code == 2
    assert "the folder that this process works in was deleted: cd to one that there is" in said.err
    assert find_runs(runs_dir) == []
    assert kourou("ps").code == 0


def test_an_interrupted_program_gives_130(launched):
    live = launched("make_endless", "--launch-type", "local_mp")

    live.launcher.send_signal(signal.SIGINT)
    out, err = live.launcher.communicate(timeout=WAIT_S)

    assert live.launcher.returncode == 130
    assert "client 0 begins" in out
    assert "was interrupted" in err
    assert "Traceback" not in err
    assert live.kourou("ps", "--all", "--json").json[0]["state"] == "interrupted"


def test_plan_prints_what_would_start(runs_dir):
    target = f"{PROGRAMS}:make_endless"
    as_json = kourou("plan", target, "--launch-type", "local_mp", "--json", "--", "3").json

    assert [node["name"] for node in as_json["nodes"]] == ["server/0", "client/0", "client/1", "client/2"]
    assert "PyNode(call_for_ever)" in kourou("plan", target).out
    assert kourou("plan", target, "--format", "mermaid").out.startswith("flowchart LR\n")
    assert not runs_dir.exists()


@pytest.mark.parametrize("command", ["run", "plan"])
def test_help_behind_the_dashes_is_the_function_s(runs_dir, command):
    outcome = kourou(command, f"{PROGRAMS}:make_endless", "--", "--help")

    assert outcome.code == 0
    assert f"usage: kourou {command} {PROGRAMS}:make_endless -- [-h] [--clients INT]" in " ".join(outcome.out.split())
    assert not runs_dir.exists()


def test_help_and_version_are_quick_and_import_no_grpc():
    loaded = "import sys; from kourou.cli.app import app; print('grpc' in sys.modules, 'torch' in sys.modules)"

    assert (
        subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True, timeout=30).stdout
        == "False False\n"
    )
    assert kourou("--version").out.startswith("kourou 0.")
    listed = kourou("--help").out
    assert all(
        f" {name} " in listed for name in ["run", "plan", "ps", "status", "logs", "stop", "call", "debug", "clean"]
    )


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_package", "cannot be imported"),
        ("def make(): return 1 / 0", "raised an error"),
        ("def make(:", "cannot be imported"),
    ],
)
def test_an_error_in_the_user_s_code_is_shown_with_the_user_s_frames_only(tmp_path, runs_dir, command, source, message):
    file = tmp_path / f"{tmp_path.name}.py"
    file.write_text(f"{source}\n")

    outcome = kourou(command, f"{file}:make")

    assert outcome.code == 2
    assert message in outcome.err
    assert source in outcome.err
    assert "Error: " in outcome.err
    assert "kourou/cli" not in outcome.err
    assert "importlib" not in outcome.err
    assert not runs_dir.exists()


def test_an_error_of_a_dataclass_of_arguments_is_shown_without_the_frames_of_what_parsed_it(tmp_path):
    file = tmp_path / f"{tmp_path.name}.py"
    file.write_text(
        "import dataclasses\n"
        "@dataclasses.dataclass\n"
        "class Config:\n"
        "    lr: float = 1\n"
        "    def __post_init__(self):\n"
        "        {}[self.lr]\n"
        "def make(config: Config): ...\n"
    )

    outcome = kourou("run", f"{file}:make", "--", "--config.lr=3")

    assert outcome.code == 2
    assert "does not take its arguments" in outcome.err
    assert "{}[self.lr]" in outcome.err
    assert "tyro" not in outcome.err


def test_a_script_that_launches_when_it_is_imported_is_refused(tmp_path, runs_dir):
    file = tmp_path / "unguarded_script.py"
    file.write_text(
        "import kourou as lp\n"
        "def make():\n"
        "    program = lp.Program('p')\n"
        "    program.add_node(lp.PyNode(print, 'hello'), label='node')\n"
        "    return program\n"
        "lp.launch(make(), 'local_mt').wait()\n"
    )

    outcome = kourou("plan", f"{file}:make")

    assert outcome.code == 2
    assert "put that under if __name__ == '__main__'" in outcome.err
    assert not runs_dir.exists()
