"""What a run leaves in its folder, and what it does not."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import kourou as lp
from optional import pytest
from polling import WAIT_S, until

LABELS = [
    "plain",
    "with space",
    'it\'s "quoted"',
    "a!&;$(x)`y`",
    "Köln-東京-🚀",
    "..",
    ".",
    "x" * 200,
    "-rf",
    "%2F",
    "l\nb",
]


def speak(text):
    print(text)


def fail():
    print("hostile")
    raise ValueError("hostile too")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_hostile_labels_reach_logs_events_and_terminal(launch_type, capfd):
    # Given nodes with labels that no shell and no file system likes.
    program = lp.Program("we ird/../name\n'")
    for label in LABELS:
        program.add_node(lp.PyNode(speak, f"I am {label}"), label=label)
    # When they run.
    run = lp.launch(program, launch_type)
    run.wait(timeout_s=WAIT_S)
    # Then each has a log of its own inside of the folder, and a line on the terminal.
    logs = {path for path in run.folder.rglob("*.log") if path.is_relative_to(run.folder / "logs")}
    assert len(logs) == len(LABELS)
    assert all(path.resolve().is_relative_to(run.folder) for path in logs)
    texts = sorted(path.read_text(encoding="utf-8") for path in logs)
    assert texts == sorted(f"I am {label}\n" for label in LABELS)
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {event["node"] for event in events if event["event"] == "exit"} == {f"{label}/0" for label in LABELS}
    assert "[Köln-東京-🚀/0] I am Köln-東京-🚀" in capfd.readouterr().out
    assert json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))["program"] == program.name


def test_a_failure_under_a_hostile_label_names_its_log():
    program = lp.Program("hostile")
    program.add_node(lp.PyNode(fail), label='it\'s & "b!d"')
    with pytest.raises(lp.errors.ProgramFailed) as caught:
        lp.launch(program, "local_mp").wait(timeout_s=WAIT_S)
    log = Path(caught.value.records[0].log_file)
    assert str(log) in str(caught.value)
    assert "hostile" in log.read_text(encoding="utf-8").splitlines()


def test_only_the_owner_may_look_into_a_run_and_secrets_go_with_it(runs_dir):
    # Given a running program, made under a lax umask.
    before = os.umask(0)
    try:
        program = lp.Program("private")
        program.add_node(lp.PyNode(lp.wait_for_stop), label="node")
        run = lp.launch(program, "local_mp")
        until(lambda: run.nodes["node/0"].state is lp.NodeState.READY, WAIT_S)
    finally:
        os.umask(before)
    # Then its folder and its token are private.
    assert _mode(run.folder) == 0o700
    assert _mode(run.folder / "token") == 0o600
    assert _mode(run.folder / "payloads") == 0o700
    while_running = {path.name for path in run.folder.iterdir()}
    assert {"plan.json", "run.json", "events.jsonl", "token", "payloads"} <= while_running
    # When it has ended.
    run.stop()
    # Then the token and the payloads are gone, and what a person needs is left.
    left = {path.name for path in run.folder.iterdir()}
    assert {"plan.json", "run.json", "events.jsonl"} <= left
    assert not {"token", "payloads"} & left


def test_the_folder_is_made_where_it_was_asked_for(tmp_path, monkeypatch):
    program = lp.Program("folder")
    program.add_node(lp.PyNode(speak, "hello"), label="node")
    for place, options in ((tmp_path / "an argument", {"run_dir": tmp_path / "an argument"}), (tmp_path / "ünv", {})):
        monkeypatch.setenv("KOUROU_RUNS_DIR", str(tmp_path / "ünv"))
        run = lp.launch(program, "local_mt", **options)
        run.wait(timeout_s=WAIT_S)
        assert run.folder.parent == place
        assert run.folder.name == run.run_id


def test_a_file_in_the_place_of_the_folder_is_a_launch_error(tmp_path):
    (tmp_path / "file").touch()
    program = lp.Program("folder")
    program.add_node(lp.PyNode(speak, "hello"), label="node")
    with pytest.raises(lp.errors.LaunchError, match="KOUROU_RUNS_DIR"):
        lp.launch(program, "local_mt", run_dir=tmp_path / "file")


def test_events_tell_the_life_of_each_node_in_order():
    program = lp.Program("life")
    program.add_node(lp.PyNode(speak, "hello"), label="node")
    run = lp.launch(program, "local_mp")
    run.wait(timeout_s=WAIT_S)
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    states = [event["state"] for event in events if event["event"] == "node" and event["name"] == "node/0"]
    once = [state for i, state in enumerate(states) if i == 0 or state != states[i - 1]]
    assert once == ["STARTING", "READY", "FINISHED"]
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_a_program_with_a_mistake_leaves_neither_a_folder_nor_a_process(launch_type, tmp_path):
    # Given a program that cannot run, of which nobody knows before it is compiled.
    program = lp.Program("mistaken")
    program.add_node(lp.PyNode(speak, (one for one in "")), label="node")
    # When it is launched, then what is wrong is said, and nothing is left.
    with pytest.raises(lp.errors.PlanError):
        lp.launch(program, launch_type, serialize_py_nodes=True, run_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
