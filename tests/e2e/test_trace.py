"""A trace of an Ape-X, as a viewer takes it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import kourou as lp
from cli.commands import kourou
from optional import pytest
from polling import WAIT_S, until
from ui.programs import make_apex

pytestmark = pytest.mark.usefixtures("no_leaks", "runs_dir")

Event = dict[str, Any]


def recorded(run: lp.Run, file: Path) -> list[Event]:
    """The events of a trace in which each actor has acted, and the learner has learned."""
    outcome = kourou("trace", run.run_id, "--seconds", "0.5", "-o", str(file))
    assert outcome.code == 0, outcome.err
    events: list[Event] = json.loads(file.read_text("utf-8"))["traceEvents"]
    calls = {event["name"].rpartition(".")[2] for event in events if event["ph"] == "X"}
    inference = next(name for name in run.nodes if name.startswith("inference"))
    wanted = {("actor/0", inference), ("actor/1", inference), ("learner/0", "replay/0")}
    return events if {"act", "sample", "insert"} <= calls and wanted <= ways(events) else []


def ways(events: list[Event]) -> set[tuple[str, str]]:
    """From whom arrows lead to whom."""
    processes = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    ended = {event["id"]: processes[event["pid"]] for event in events if event["ph"] == "f"}
    return {(processes[event["pid"]], ended[event["id"]]) for event in events if event["ph"] == "s"}


def test_a_trace_of_apex_has_a_track_for_each_thread_and_arrows_between_nodes(tmp_path: Path) -> None:
    # Given
    with lp.launch(make_apex(2), "local_mp", terminal="output_to_files") as run:
        until(lambda: all(str(node.state) == "READY" for node in run.nodes.values()), WAIT_S)
        # When
        events = until(lambda: recorded(run, tmp_path / "apex.json"), WAIT_S, "calls of all kinds, by all")
        names = set(run.nodes)
    # Then each node is a process with its states,
    processes = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert set(processes.values()) == names
    slices = [event for event in events if event["ph"] == "X"]
    ready = {processes[event["pid"]] for event in slices if event["name"] == "READY"}
    assert ready == names
    # what is on one track is within each other or apart, so that a viewer shows all of it,
    tracks: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in sorted(slices, key=lambda one: (one["ts"], -one["dur"])):
        tracks[event["pid"], event["tid"]].append(event)
    for track in tracks.values():
        open_until: list[float] = []
        for event in track:
            while open_until and open_until[-1] <= event["ts"] + 1e-3:  # µs with nanoseconds, as floats
                open_until.pop()
            end = event["ts"] + event["dur"]
            assert not open_until or end <= open_until[-1] + 1e-3
            open_until.append(end)
    # and arrows, which lead from callers to the nodes that they called, do so from calls to their handlers
    begun = {event["id"]: event for event in events if event["ph"] == "s"}
    ended = {event["id"]: event for event in events if event["ph"] == "f"}
    assert begun.keys() == ended.keys()
    assert all(ended[number]["ts"] > begun[number]["ts"] for number in begun)
