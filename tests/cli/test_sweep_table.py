"""How a sweep looks in a terminal, and when it is said to end."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from kourou.cli.sweep.table import sweep_table
from kourou.experiments.journal.run_records import RunRecord, RunState, progress_of

NOW = 1_000_000.0


def record(number: int, state: RunState, *, took_s: float | None = None, **fields: object) -> RunRecord:
    began = None if state is RunState.PENDING else NOW - 40
    ended = None if took_s is None or began is None else began + took_s
    values = {"attempt": int(began is not None), "started_at": began, "ended_at": ended, **fields}
    return RunRecord(run_id=f"{number:03}-0", name=f"{number:02}_ppo_lr_{number}", folder="", state=state, **values)  # type: ignore[arg-type] # what each test says


def drawn(records: list[RunRecord], *, width: int = 120, height: int | None = None) -> list[str]:
    out = Console(file=io.StringIO(), width=width)
    out.print(sweep_table(Path("somewhere/mine"), records, width=width, height=height))
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


def test_a_row_tells_state_place_and_how_a_run_ended() -> None:
    lines = drawn(
        [
            record(1, RunState.SUCCEEDED, took_s=20.0, slot=0, gpus=("2", "3")),
            record(2, RunState.FAILED, took_s=20.0, slot=1, gpus=("4",), cause="exited with 3", attempt=2),
            record(3, RunState.PENDING, cause="waits: GPU 2 has 1.0 GiB of memory free, and a run needs 8.0 GiB"),
        ]
    )
    assert lines[0] == "mine  ·  2/3 done  ·  ○ 1 pending  ·  ✓ 1 succeeded  ·  ✗ 1 failed"
    assert "66%" in lines[1]
    assert re.search(r"01_ppo_lr_1 +✓ succeeded +1 +0 +2,3 +20s", "\n".join(lines))
    assert re.search(r"02_ppo_lr_2 +✗ failed +2 +1 +4 +20s +exited with 3", "\n".join(lines))
    assert re.search(r"03_ppo_lr_3 +○ pending +– +waits: GPU 2 has 1.0 GiB", "\n".join(lines))


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_row_is_a_line_at_any_width(width: int) -> None:
    lines = drawn([record(1, RunState.FAILED, took_s=1.0, cause="x" * 300)] * 3, width=width)
    assert sum("✗ failed" in line and "01_ppo" in line for line in lines) == 3
    assert max(map(len, lines[2:])) <= width


def test_where_there_is_no_room_what_runs_and_what_failed_comes_first() -> None:
    records = [record(number, RunState.SUCCEEDED, took_s=number / 10) for number in range(50)]
    records += [record(50, RunState.RUNNING), record(51, RunState.FAILED, took_s=1.0)]
    lines = drawn(records, height=12)
    shown = [line.split("_")[0] for line in lines if "_ppo_" in line]
    assert shown == ["47", "48", "49", "50", "51"]  # of those that are done, the last ones
    assert lines[-1] == "  … and 47 more runs"
    assert len(lines) <= 12


def test_the_time_that_is_left_is_that_of_runs_like_those_that_succeeded() -> None:
    done = [record(number, RunState.SUCCEEDED, took_s=60.0) for number in range(2)]
    running = [record(number, RunState.RUNNING) for number in range(2, 4)]  # for 40 s
    waiting = [record(number, RunState.PENDING) for number in range(4, 7)]
    progress = progress_of([*done, *running, *waiting], now=NOW)
    assert (progress.done, progress.total) == (2, 7)
    assert progress.eta_s == pytest.approx((2 * 20 + 3 * 60) / 2)


def test_no_time_is_told_that_nothing_speaks_for() -> None:
    running, waiting = record(1, RunState.RUNNING), record(2, RunState.PENDING)
    assert progress_of([running, waiting], now=NOW).eta_s is None
    assert progress_of([record(3, RunState.SUCCEEDED, took_s=1.0), waiting], now=NOW).eta_s is None


@pytest.mark.parametrize("width", [32, 45, 60, 99])
def test_what_has_no_room_is_left_out_and_no_number_is_cut(width: int) -> None:
    lines = drawn([record(1, RunState.SUCCEEDED, took_s=3725.0, slot=12, gpus=("10", "11"))], width=width)
    headings, row = lines[3], lines[5]
    assert max(map(len, lines)) <= width
    assert ("took" in headings) == ("1h 02m" in row) == (width >= 45)
    assert ("gpu" in headings) == ("10,11" in row) == (width >= 60)
