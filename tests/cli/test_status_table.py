"""How a sample looks."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from kourou.cli.status.table import status_table
from kourou.cli.terminal.formats import duration, parse_duration, parse_size, percent, rate, size
from kourou.errors import PlanError
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState
from kourou.runtime.model.status import RunState, RunStatus
from kourou.runtime.monitoring.numbers import families
from kourou.runtime.monitoring.prometheus import exposition
from kourou.runtime.monitoring.sampling import NodeSample, RunSample

NOW = 1_000_000.0


def sample(states: list[NodeState], *, state: RunState = RunState.RUNNING, line: str = "") -> RunSample:
    records = []
    for index, node_state in enumerate(states):
        name = f"a-rather-long-label/{index}"
        end = ExitRecord(node=name, attempt=1, state=node_state, cause="raised ValueError: no\nmore", uptime_s=3)
        records.append(
            NodeRecord(
                name=name,
                state=node_state,
                attempt=1,
                pid=4_000_000,
                started_at=NOW - 4000,
                exit=end if node_state.ended else None,
            )
        )
    status = RunStatus(
        run_id="a-program-with-a-name-of-forty-characters-20261121-001122-abcdef",
        program="a",
        launch_type="local_mp",
        state=state,
        stop_reason="",
        started_at=NOW - 5000,
        ended_at=None if state.live else NOW - 7,
        nodes=tuple(records),
    )
    figures = NodeSample(cpu_percent=1600.4, memory_bytes=15 << 30, calls=10**6, calls_per_s=123_456.0, last_line=line)
    return RunSample(
        status=status, taken_at=NOW, nodes={record.name: figures for record in records}, launcher=NodeSample()
    )


def drawn(shown: RunSample, *, width: int = 100, height: int | None = None, fill: bool = True) -> list[str]:
    out = Console(file=io.StringIO(), width=width)
    out.print(status_table(shown, width=width, height=height, fill=fill))
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_row_is_a_line_at_any_width(width):
    lines = drawn(sample([NodeState.READY] * 3, line="x" * 300), width=width)

    assert sum("● ready" in line and "123k" in line for line in lines) == 3
    assert max(map(len, lines)) <= width


def test_everything_has_room_in_a_hundred_columns():
    line = next(line for line in drawn(sample([NodeState.READY], line="hello")) if "4000000" in line)

    words = ["a-rather-long-label/0", "● ready", "4000000", "1h 06m", "1600", "15.0 GiB", "123k", "hello"]
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize("fill", [True, False])
def test_a_long_line_takes_no_room_from_the_figures(fill):
    shown = sample([NodeState.READY], line="a line " * 40)
    shown.nodes["a-rather-long-label/0"].metrics.update({"step": 7, **dict.fromkeys(map(str, range(30)), 0.5)})

    row = next(line for line in drawn(shown, width=120, fill=fill) if "● ready" in line)

    assert [
        word for word in ("a-rather-long-label/0", "4000000", "1h 06m", "15.0 GiB", "7:", "a line") if word not in row
    ] == []


def test_what_a_node_prints_cannot_disturb_the_table():
    line = "\x1b[31mred\x1b[0m \x1b]0;title\x07and\ttabs \x07"

    text = "\n".join(drawn(sample([NodeState.READY], line=line), width=140))

    assert "red and tabs" in text.replace("…", "")
    assert "\x1b" not in text
    assert "[bold]" in "\n".join(drawn(sample([NodeState.READY], line="[bold]")))  # no markup either


def test_where_there_is_no_room_the_urgent_nodes_come_first():
    states = [NodeState.READY] * 50 + [NodeState.FAILED]

    lines = drawn(sample(states), height=24)

    assert len(lines) <= 24
    assert any("a-rather-long-label/50" in line and "failed" in line for line in lines)
    assert any("more nodes: " in line and "ready" in line for line in lines)


def test_an_ended_run_shows_how_it_ended_and_no_rates():
    text = "\n".join(drawn(sample([NodeState.FINISHED, NodeState.FAILED], state=RunState.FAILED)))

    assert "failed after 1h 23m  (7.0s ago)" in text
    assert "✗ a-rather-long-label/1 raised ValueError: no" in text
    assert "cpu" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.04, "0.0s"), (9.96, "10.0s"), (59.9, "59s"), (60, "1m 00s"), (7265, "2h 01m"), (99999, "1d 03h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_figures():
    assert [rate(value) for value in (None, 0, 0.04, 9.94, 9.96, 1234, 99_951)] == [
        "–",
        "0",
        "0.0",
        "9.9",
        "10",
        "1,234",
        "100k",
    ]
    assert [size(value) for value in (None, 0, 1023, 1 << 20, 3 << 29)] == ["–", "0 B", "1023 B", "1 MiB", "1.5 GiB"]
    assert [percent(value) for value in (None, 0.4, 103)] == ["–", "0", "103"]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5m", 90), ("2h", 7200), ("7d", 604800), ("1w", 604800)])
def test_durations_that_are_typed(text, seconds):
    assert parse_duration(text) == seconds


def test_what_is_no_duration_is_said_to_be_none():
    with pytest.raises(PlanError, match="such as 7d"):
        parse_duration("-1d")


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("512M", 512 << 20), ("1.5g", 3 << 29), (" 16GiB ", 16 << 30), ("2TB", 2 << 40)]
)
def test_sizes_that_are_typed(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["16", "0G", "-1G", "1G2", "much"])
def test_what_is_no_size_is_said_to_be_none(text: str) -> None:
    with pytest.raises(PlanError, match="such as 16G"):
        parse_size(text)


def test_numbers_with_hostile_names_are_what_prometheus_reads():
    parse = pytest.importorskip("prometheus_client.parser").text_string_to_metric_families
    shown = sample([NodeState.READY])
    name, evil = shown.status.nodes[0].name, 'a"b\\c\nd{} 1'
    last = {"step": 1, "time": NOW, evil: 0.5, "nan": "NaN", "text": "x"}
    shown.nodes[name] = dataclasses.replace(shown.nodes[name], metrics=last)
    found = {family.name: family for family in parse(exposition(families(shown, {})))}
    (logged,) = found["kourou_logged"].samples
    assert (logged.labels["metric"], logged.labels["node"], logged.value) == (evil, name, 0.5)
    assert found["process_memory_usage_bytes"].samples[0].value == 15 << 30


def test_what_nodes_logged_last_is_a_column():
    shown = sample([NodeState.READY] * 2)
    last = {"step": 1200, "time": NOW, "loss": 0.031234, "nan": "NaN", "done": True, "none": None, "\x1b[2Jevil\n": 1}
    first = shown.status.nodes[0].name
    shown.nodes[first] = dataclasses.replace(shown.nodes[first], metrics=last)
    text = "\n".join(drawn(shown, width=240))
    assert "1,200:  loss 0.03123  nan NaN  done True  none None  evil 1" in text
    assert "metrics" not in "\n".join(drawn(sample([NodeState.READY]), width=200))
    assert "loss" not in "\n".join(drawn(shown, width=60))
