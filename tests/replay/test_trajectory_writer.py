"""Writers, against lists of steps."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fuzzing import examples
from kourou.errors import DeadlineExceeded, SignatureError, TableNotFound
from kourou.replay import Client, Server, Table, TensorSpec
from kourou.replay.arrays.array_types import Array
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo, Prioritized
from kourou.replay.storage.rows import RowFile
from polling import until
from replay.conftest import Connect, Serve

COLUMNS: dict[str, Any] = {
    "a": lambda step: np.full(3, step, np.int32),
    "b": lambda step: np.array(step / 2),
    "c": lambda step: np.array([[step, -step]], np.int16),
}
# Which columns a step has, in how many parts it comes, and the items that are made after it: (column, start, stop).
STEPS = st.lists(
    st.tuples(
        st.lists(st.lists(st.sampled_from("abc"), max_size=3, unique=True), min_size=1, max_size=3),
        st.lists(
            st.lists(
                st.tuples(st.sampled_from("abc"), st.integers(-5, -1), st.integers(-4, 1)), min_size=1, max_size=3
            ),
            max_size=2,
        ),
        st.booleans(),
    ),
    min_size=1,
    max_size=14,
)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server([Table("t", Fifo(), Fifo(), 1000, MinSize(1))]) as server:
        yield server


@pytest.fixture(scope="module", params=["local", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    with Client(server.address, lane=request.param) as client:
        yield client


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.integers(1, 5), length=st.sampled_from([None, 1, 2, 3]), steps=STEPS)
def test_histories_and_items_are_those_of_a_list(  # noqa: C901, PLR0912, PLR0915 - everything that a writer can be asked for
    client: Client, keep: int, length: int | None, steps: list[tuple[list[list[str]], list[Any], bool]]
) -> None:
    client.reset("t")
    written: list[dict[str, np.ndarray]] = []
    expected: list[dict[str, list[Any]]] = []
    with client.trajectory_writer(keep) as writer:
        if length is not None:
            writer.configure(("zzz",), num_keep_alive_refs=length, max_chunk_length=length)
        started = False
        for parts, items, ends in steps:
            step: dict[str, np.ndarray] = {}
            names = [[name for name in part if name not in earlier] for part, earlier in _with_earlier(parts)]
            names = [part for part in names if part]
            if not names:
                continue
            number = next(_numbers) % 1000
            written.append(step)
            for index, part in enumerate(names):
                data = {name: COLUMNS[name](number) for name in part}
                step.update(data)
                writer.append(data, partial_step=index < len(names) - 1)
                started = True
            gone = len(written[:-keep])
            for name in writer.history:
                assert len(writer.history[name]) == len(written)
                for position, one in enumerate(written):
                    if position < gone:
                        with pytest.raises(ValueError, match="not kept"):
                            writer.history[name][position].numpy()
                    elif name in one:
                        assert np.array_equal(writer.history[name][position].numpy(), one[name])
                        assert writer.history[name][position].shape == one[name].shape
                    else:
                        with pytest.raises(ValueError, match="lacks"):
                            writer.history[name][position].numpy()
            for item in items:
                trajectory = {}
                wanted = {}
                for name, start, stop in item:
                    if name in writer.history:
                        end = None if stop >= 0 else stop
                        trajectory[name] = writer.history[name][start:end]
                        numbers = range(len(written))[start:end]
                        wanted[name] = [written[number] if number >= gone else {} for number in numbers]
                whole = all(values and all(name in one for one in values) for name, values in wanted.items())
                if trajectory and whole:
                    writer.create_item("t", 1.0, trajectory)
                    expected.append({name: [one[name] for one in values] for name, values in wanted.items()})
                elif trajectory:
                    with pytest.raises(ValueError, match=r"lacks|at least one step|not kept"):
                        writer.create_item("t", 1.0, trajectory)
            if ends:
                writer.end_episode()
                written = []
        if started:
            writer.flush()
    found = [sample.data for sample in client.items("t")]
    assert len(found) == len(expected)
    for have, want in zip(found, expected, strict=True):
        assert have.keys() == want.keys()
        for name in want:
            assert np.array_equal(have[name], np.stack(want[name]))


def _with_earlier(parts: list[list[str]]) -> Iterator[tuple[list[str], set[str]]]:
    earlier: set[str] = set()
    for part in parts:
        yield part, set(earlier)
        earlier |= set(part)


def test_nested_steps(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 10)))
    with client.trajectory_writer(2) as writer:
        for step in range(3):
            writer.append({"x": [np.array(step), (np.array([step]), {"y": np.array(2.0 * step)})], "z": step})
        item = {
            "last": writer.history["x"][1][1]["y"][-2:],
            "both": [writer.history["z"][-1], writer.history["x"][0][-2:]],
        }
        writer.create_item("q", 1.0, item)
    (sample,) = client.sample("q")
    assert sample.data["last"].tolist() == [2.0, 4.0]
    assert sample.data["both"][0] == 2
    assert sample.data["both"][1].tolist() == [1, 2]


def test_a_history_is_counted_from_its_first_step_though_the_latest_are_kept(serve: Serve, connect: Connect) -> None:
    # given a writer that keeps three of six steps
    client = connect(serve(Table.queue("q", 10)))
    with client.trajectory_writer(3) as writer:
        for step in range(6):
            writer.append({"x": np.array(step)})
        history = writer.history["x"]
        # then a step has the same number as long as the episode lasts
        assert len(history) == 6
        assert history[5].numpy() == history[-1].numpy() == 5
        assert history[3:].numpy().tolist() == [3, 4, 5]
        assert history[[3, -1]].numpy().tolist() == [3, 5]
        # and those that are gone are not taken for others
        for gone in (history[0], history[:], history[-4:], history[[2, 3]]):
            with pytest.raises(ValueError, match="not kept"):
                gone.numpy()
            with pytest.raises(ValueError, match="not kept"):
                writer.create_item("q", 1.0, gone)
        with pytest.raises(IndexError):
            _ = history[6]
        # and parts of a history are lists, too
        column = history[-3:]
        assert column[[0, 2]].numpy().tolist() == [3, 5]
        assert (column[1].squeeze, column.squeeze) == (True, False)
        assert history[-1]
        assert len(history[-1]) == 1
        # and a new episode begins at 0
        writer.end_episode()
        assert len(history) == 0
        writer.append({"x": np.array(10)})
        assert history[0].numpy() == 10
        writer.end_episode(clear_buffers=False)
        writer.append({"x": np.array(11)})
        assert history[:].numpy().tolist() == [10, 11]


def test_how_many_steps_are_kept_may_change_at_any_time(serve: Serve, connect: Connect) -> None:
    # given a writer that keeps two steps of each column, in the middle of a step
    client = connect(serve(Table.queue("q", 10)))
    with client.trajectory_writer(2) as writer:
        for step in range(3):
            writer.append({"x": np.array(step), "y": np.array(-step)})
        writer.append({"x": np.array(3)}, partial_step=True)
        # when it is to keep more of one
        writer.configure(("x",), num_keep_alive_refs=4, max_chunk_length=2)
        writer.append({"y": np.array(-3)})
        for step in range(4, 6):
            writer.append({"x": np.array(step), "y": np.array(-step)})
        # then that one has them, from those on that there were, and the other one has not
        history = writer.history
        writer.create_item("q", 1.0, {"x": history["x"][-4:], "y": history["y"][-2:]})
        with pytest.raises(ValueError, match="only 2 are"):
            writer.create_item("q", 1.0, {"y": history["y"][-3:]})
        with pytest.raises(ValueError, match="only 2 are"):
            history["y"][-3].numpy()
    (sample,) = client.sample("q")
    assert sample.data["x"].tolist() == [2, 3, 4, 5]
    assert sample.data["y"].tolist() == [-4, -5]


def test_irregular_parts(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 10)))
    with client.trajectory_writer(8) as writer:
        for step in range(8):
            writer.append({"x": np.array(step)})
        history = writer.history["x"]
        writer.create_item("q", 1.0, {"even": history[::2], "back": history[::-1], "some": history[[5, 1, 1, -1]]})
        writer.create_item("q", 1.0, history[-3:][1])
    first, second = client.sample("q", 2)
    assert first.data["even"].tolist() == [0, 2, 4, 6]
    assert first.data["back"].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert first.data["some"].tolist() == [5, 1, 1, 7]
    assert second.data == 6


def test_items_arrive_without_a_flush(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 10)))
    with client.trajectory_writer(1) as writer:
        writer.append({"x": np.array(3)})
        key = writer.create_item("q", 1.0, {"x": writer.history["x"][-1]})
        (sample,) = client.sample("q", timeout_s=10)
        assert sample.info.key == key


def test_mistakes_of_a_writer(serve: Serve, connect: Connect) -> None:
    signature = {"x": TensorSpec((2, 3), np.float32)}
    server = serve(Table("t", Prioritized(1.0), Fifo(), 10, MinSize(1), signature=signature), Table.queue("other", 9))
    client = connect(server)
    with client.trajectory_writer(3) as writer, client.trajectory_writer(3) as another:
        with pytest.raises(RuntimeError, match="before the first step"):
            _ = writer.history
        step = {"x": np.zeros(3, np.float32)}
        for _ in range(3):
            writer.append(step)
            another.append(step)
        history = writer.history["x"]
        with pytest.raises(ValueError, match="float64 but expected float32"):
            writer.append({"x": np.zeros(3)})
        with pytest.raises(ValueError, match=r"\(4,\) but expected \(3,\)"):
            writer.append({"x": np.zeros(4, np.float32)})
        with pytest.raises(TypeError, match="fixed dtype"):
            writer.append({"y": object()})
        writer.append({"x": step["x"]}, partial_step=True)
        with pytest.raises(ValueError, match="already"):
            writer.append({"x": step["x"]})
        writer.append({"y": np.array(1)})
        assert writer.episode_steps == 4
        with pytest.raises(IndexError):
            _ = history[4]
        with pytest.raises(TableNotFound):
            writer.create_item("nope", 1.0, {"x": history[-2:]})
        for bad in (-1.0, float("nan")):
            with pytest.raises(ValueError, match="no priority"):
                writer.create_item("t", bad, {"x": history[-2:]})
        with pytest.raises(SignatureError, match="shape"):
            writer.create_item("t", 1.0, {"x": history[-3:]})
        with pytest.raises(TypeError, match="no part"):
            writer.create_item("t", 1.0, {"x": np.zeros(3)})
        with pytest.raises(ValueError, match="another writer"):
            writer.create_item("t", 1.0, {"x": another.history["x"][-2:]})
        with pytest.raises(ValueError, match="at least one step"):
            writer.create_item("t", 1.0, {"x": history[:0]})
        old = history[-3:]
        writer.append(step)
        with pytest.raises(ValueError, match="not kept"):
            writer.create_item("other", 1.0, {"x": old})
        for wrong in ({"num_keep_alive_refs": 0}, {"num_keep_alive_refs": 2, "max_chunk_length": 3}):
            with pytest.raises(ValueError, match="at least 1"):
                writer.configure(("x",), **wrong)
        with pytest.raises(ValueError, match="at least 0"):
            writer.flush(-1)
        writer.create_item("t", 1.0, {"x": writer.history["x"][-2:]})
    assert len(client.sample_batch("t", 2, timeout_s=10)) == 2
    with pytest.raises(ValueError, match="closed"):
        writer.append(step)


def test_a_refused_part_of_a_step_leaves_no_trace(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table("t", Fifo(), Fifo(), 10, MinSize(1))))
    with client.trajectory_writer(1) as writer:
        # given a part that was refused although it had a column that nobody had seen before
        writer.append({"a": np.array(1)}, partial_step=True)
        with pytest.raises(ValueError, match="already"):
            writer.append({"a": np.array(2), "b": np.array(2)})
        # when the column comes again, in the same step and in whole ones
        writer.append({"b": np.array(3)})
        assert set(writer.history) == {"a", "b"}
        writer.create_item("t", 1.0, {name: column[-1] for name, column in writer.history.items()})
        writer.append({"b": np.array(5), "a": np.array(4)})
        writer.create_item("t", 1.0, {name: column[-1] for name, column in writer.history.items()})
    # then it is what it would have been without the mistake
    assert [(int(item.data["a"]), int(item.data["b"])) for item in client.items("t")] == [(1, 3), (4, 5)]


def test_flushing_takes_no_longer_than_it_may(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 2)))
    with client.trajectory_writer(1) as writer:
        for step in range(3):
            writer.append({"x": np.array(step)})
            writer.create_item("q", 1.0, {"x": writer.history["x"][-1]})
        for timeout_s in (0, 0.05):
            with pytest.raises(DeadlineExceeded, match="have not been inserted"):
                writer.flush(timeout_s=timeout_s)
        with pytest.raises(DeadlineExceeded):
            writer.end_episode(timeout_s=0.01)
        assert writer.episode_steps == 0
        assert client.sample_batch("q", 1).data["x"].tolist() == [0]
        writer.flush(timeout_s=10)
    assert client.sample_batch("q", 2).data["x"].tolist() == [1, 2]


def test_a_writer_does_not_run_ahead_for_ever(serve: Serve, connect: Connect) -> None:
    # given a table that lets nothing in
    server = serve(Table.queue("q", 5))
    client = connect(server)
    written = []

    def write() -> None:
        with client.trajectory_writer(1, max_in_flight_items=300) as writer:
            for step in range(2000):
                writer.append({"x": np.array(step)})
                writer.create_item("q", 1.0, {"x": writer.history["x"][-1]})
                written.append(step)

    # when a writer goes on
    thread = threading.Thread(target=write)
    thread.start()
    until(lambda: server.tables[0].info.waiting_inserts, 10)
    # then it waits, until there is room
    batches = [client.sample_batch("q", 100, timeout_s=20).data["x"]]
    assert len(written) < 2000
    batches += [client.sample_batch("q", 100, timeout_s=20).data["x"] for _ in range(19)]
    thread.join()
    assert np.concatenate(batches).tolist() == list(range(2000))


def test_long_episodes_of_large_steps_reuse_their_memory(serve: Serve, connect: Connect) -> None:
    server = serve(Table("t", Fifo(), Fifo(), 20, MinSize(1)))
    client = connect(server)
    with client.trajectory_writer(5) as writer:
        for step in range(3000):
            writer.append({"x": np.full(2500, step, np.float32)})
            if step >= 4 and step % 2:
                writer.create_item("t", 1.0, {"x": writer.history["x"][-5:]})
    batch = client.items("t")
    assert [array[:, 7].tolist() for array in batch.data["x"]] == [
        list(range(last - 4, last + 1)) for last in range(2961, 3001, 2)
    ]
    (store,) = server._data.stores
    assert store.top * store.block_bytes < 160 << 20


LARGE = 40_000  # bytes: such rows are written by another way than small ones


def test_large_rows_of_every_kind_arrive_as_they_were(serve: Serve, connect: Connect) -> None:
    # Given steps with rows of many pages: contiguous, transposed, strided, read-only and of a dtype without a buffer
    client = connect(serve(Table("t", Fifo(), Fifo(), 100, MinSize(1), max_times_sampled=1)))
    plain = np.arange(LARGE // 8, dtype=np.float64)
    frozen = plain.reshape(50, -1).copy()
    frozen.flags.writeable = False
    steps = [
        {
            "a": plain + step,
            "b": np.asfortranarray(frozen + step),
            "c": frozen,
            "d": plain.astype("M8[s]") + np.timedelta64(step, "s"),
        }
        for step in range(6)
    ]
    # When they are written, across a growing store, and sampled
    with client.trajectory_writer(num_keep_alive_refs=2) as writer:
        for step in steps:
            writer.append(step)
            writer.create_item("t", 1.0, {name: writer.history[name][-1:] for name in "abcd"})
        assert np.array_equal(writer.history["a"][-2:].numpy(), [steps[-2]["a"], steps[-1]["a"]])
    # Then they are equal
    for step in steps:
        (sample,) = (found.data for found in client.sample("t", 1))
        assert all(np.array_equal(sample[name][0], step[name]) for name in "abcd")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux only")
@pytest.mark.parametrize("on_disk", [False, True])
def test_large_rows_are_written_once_more_where_they_are_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bool
) -> None:
    by_file = []
    write = RowFile.write

    def noted(file: RowFile, row: int, value: Array) -> None:
        by_file.append(row)
        write(file, row, value)

    monkeypatch.setattr(RowFile, "write", noted)
    table = Table("full", Fifo(), Fifo(), 10, MinSize(1))
    # Given a full table, whose memory has been used several times
    with Server([table], spill_dir=tmp_path if on_disk else None) as server, Client(server.address) as client:
        with client.trajectory_writer(num_keep_alive_refs=1, max_in_flight_items=8) as writer:
            for step in range(300):
                writer.append({"x": np.full((256, 1024), step, np.float32)})
                writer.create_item("full", 1.0, {"x": writer.history["x"][-1]})
                if step % 8 == 7:
                    writer.flush()
        found = client.items("full").data["x"]
    # Then what was written last is there
    assert [(x.min(), x.max()) for x in found] == [(step, step) for step in range(290, 300)]
    # And the system was asked to copy a row once to each place, or always, so that it need not read from a disk
    assert len(by_file) == (299 if on_disk else len(set(by_file)))  # columns are learned from the first step
