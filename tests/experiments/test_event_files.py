"""TensorBoard's event files: tensorboardX wrote the example, TensorBoard itself read what is compared."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou.experiments.failures import ResultsError
from kourou.experiments.results.event_files import read_events
from kourou.experiments.results.results import load_results

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
EXAMPLE = GOLDEN / "events.out.tfevents.example"


def test_scalars_of_both_kinds_are_those_that_tensorboard_reads() -> None:
    expected = json.loads((GOLDEN / "tensorboard_scalars.json").read_text(encoding="utf-8"))
    records = read_events(EXAMPLE)
    for tag, scalars in expected.items():
        got = [(record["step"], record[tag]) for record in records if tag in record]
        for (step, number), (expected_step, _, expected_number) in zip(got, scalars, strict=True):
            assert step == expected_step
            assert math.isnan(number) if expected_number == "NaN" else number == expected_number
    times = {step: time for scalars in expected.values() for step, time, _ in scalars}
    assert {record["step"]: record["time"] for record in records} == times
    assert {tag for record in records for tag in record} == {"step", "time", *expected}


@settings(max_examples=examples(40))
@given(st.integers(40, 6000))
def test_a_file_that_is_being_written_has_all_whole_records(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    data = EXAMPLE.read_bytes()
    file = tmp_path_factory.mktemp("events") / "half"
    file.write_bytes(data[:length])
    # As text, since NaN is not the same as itself
    records, whole = ({record["step"]: repr(record) for record in read_events(path)} for path in (file, EXAMPLE))
    assert records.items() <= whole.items()


@settings(max_examples=examples(40))
@given(st.binary(min_size=1, max_size=200))
def test_other_bytes_are_read_as_nothing_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("events") / "other"
    file.write_bytes(data)
    with contextlib.suppress(ResultsError):
        assert all("step" in record for record in read_events(file))


@pytest.mark.parametrize("content", [b"\x09abc", b"\x10\xff", b"\x0f", b"\x2a\x02\x0a"])
def test_damaged_records_name_the_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "events.out.tfevents.damaged"
    file.write_bytes(len(content).to_bytes(8, "little") + bytes(4) + content + bytes(4))
    with pytest.raises(ResultsError, match=r"tfevents\.damaged is no event file"):
        read_events(file)


def test_a_folder_has_several_files(tmp_path: Path) -> None:
    for name in ("events.out.tfevents.1", "events.out.tfevents.2"):
        (tmp_path / name).write_bytes(EXAMPLE.read_bytes())
    # NaN is not the same as itself, so texts are compared
    assert repr(read_events(tmp_path)) == repr(read_events(EXAMPLE))
    with pytest.raises(FileNotFoundError, match="there is no event file"):
        read_events(GOLDEN.parent)


def test_runs_that_log_to_tensorboard_are_in_the_table(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / EXAMPLE.name).write_bytes(EXAMPLE.read_bytes())
    table = load_results(tmp_path)
    assert table["run"].unique().tolist() == ["run"]
    assert table["loss/actor"].dropna().tolist() == [1, 0.5, 0.25]
