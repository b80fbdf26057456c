"""Arrays that travel compressed."""

from __future__ import annotations

import dataclasses
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from fuzzing import examples
from kourou.errors import MissingExtra
from kourou.replay import Client, Compression, Table
from kourou.replay.protocol.messages import InsertBatch, RowData
from kourou.replay.protocol.remote import Remote
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo
from kourou.replay.storage.compression import PackedArray, pack, unpack
from kourou.replay.storage.layout import ColumnSpec
from replay.conftest import Serve

CODECS = ["zstd", "lz4"]


@settings(max_examples=examples(150))
@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "i2", "<i4", "u8", "f4", "f8", "?", "S3", "M8[s]"]),
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=40),
    ),
    codec=st.sampled_from([*CODECS, None]),
    axis=st.sampled_from([0, 1, None]),
)
def test_what_is_packed_comes_out_as_it_was(array: Any, codec: str | None, axis: int | None) -> None:
    found = unpack(pack(array, codec, axis))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("codec", CODECS)
def test_frames_that_differ_in_little_become_small_and_noise_is_left_alone(codec: str) -> None:
    # given frames of noise, each of which differs from the one before in one pixel
    frames = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 84, 84), np.uint8), 64, axis=0)
    for number in range(64):
        frames[number:, number, number] += 1
    packed = pack(frames, codec)
    assert isinstance(packed, PackedArray)
    assert len(packed.data) < frames.nbytes / 20
    assert np.array_equal(unpack(packed), frames)
    # and counters, of which only the differences are alike
    counters = (1000 * np.arange(5000, dtype=np.int64))[:, None]
    packed = pack(counters, codec)
    assert isinstance(packed, PackedArray)
    assert packed.axis == 0
    assert len(packed.data) < counters.nbytes / 50
    # and bytes without any order
    noise = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8)
    assert pack(noise, codec) is noise


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_data_is_refused(codec: str) -> None:
    packed: Any = pack(np.zeros((100, 100)), codec)
    for data in (packed.data[: len(packed.data) // 2], b"nonsense" * 9):
        with pytest.raises(ValueError, match="compressed"):
            unpack(PackedArray(codec=codec, dtype="<f8", shape=(100, 100), axis=None, data=data))


@pytest.mark.parametrize("compression", ["zstd", "lz4", Compression(codec=None, columns={"frame": "zstd"})])
def test_writers_and_samplers_send_less_and_get_the_same(
    serve: Serve, compression: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a client that shares no memory with its server
    server = serve(Table.queue("q", 1000))
    packed: list[tuple[int, Any]] = []
    original = Remote.packed

    def listening(self: Remote, *arguments: Any) -> Any:
        rows = original(self, *arguments)
        packed.extend(rows.columns)
        return rows

    monkeypatch.setattr(Remote, "packed", listening)
    frames = np.arange(64)[:, None, None] // 8 + np.zeros((64, 30, 30), np.int64)
    with Client(server.address, lane="grpc", compression=compression) as client:
        # when it inserts in all ways
        client.insert_batch("q", {"frame": frames, "n": np.arange(64)})
        with client.trajectory_writer(4) as writer:
            for number in range(64):
                writer.append({"frame": frames[number], "n": np.array(number)})
                if number >= 3:
                    item = {"frame": writer.history["frame"][-4:], "n": writer.history["n"][-1]}
                    writer.create_item("q", 1.0, item)
        # then what comes out is what went in
        first, second = client.sample_batch("q", 64), client.sample_batch("q", 61)
        assert np.array_equal(first.data["frame"], frames)
        assert np.array_equal(second.data["frame"], np.stack([frames[n : n + 4] for n in range(61)]))
        assert second.data["n"].tolist() == list(range(3, 64))
        keys = client.insert_batch("q", {"frame": frames[:2]})
        assert np.array_equal(client.get("q", keys).data["frame"], frames[:2])
    assert any(isinstance(array, PackedArray) for column, array in packed if column == 0)
    if isinstance(compression, Compression):
        assert not any(isinstance(array, PackedArray) for column, array in packed if column == 1)


def test_on_one_host_nothing_is_compressed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("compressed")

    server = serve(Table.queue("q", 1000))
    monkeypatch.setattr(Remote, "packed", refuse)
    with Client(server.address, compression="zstd") as client:
        client.insert_batch("q", {"x": np.zeros((10, 1000))})
        assert client.shares_memory
        assert client.sample_batch("q", 10).data["x"].shape == (10, 1000)


def test_codecs_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'snappy'"):
        Compression(codec="snappy")
    with pytest.raises(ValueError, match="'snappy'"):
        Client("127.0.0.1:9", compression="snappy")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtra, match="compression"):
        Compression()


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_what_claims_less_than_it_is_is_not_expanded(codec: str) -> None:
    # given some KiB that would become 64 MiB, and claim to be ten bytes
    whole = pack(np.zeros(64 << 20, np.uint8), codec)
    assert isinstance(whole, PackedArray)
    bomb = dataclasses.replace(whole, shape=(10,))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="should have 10"):
            unpack(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_server_expands_no_more_than_its_columns_have(serve: Serve, codec: str) -> None:
    # given a client that holds one row of eight bytes
    server = serve(Table("t", Fifo(), Fifo(), 10, MinSize(1)))
    with Client(server.address, lane="grpc") as client:
        remote = client._session()
        store = remote.open_store((ColumnSpec(("x",), "u1", (8,)),), 1).info.number
        (blocks,) = remote.calls.insert(remote.session.name, InsertBatch(leases=[(store, 1)]))
        whole = pack(np.zeros((1, 64 << 20), np.uint8), codec)
        assert isinstance(whole, PackedArray)
        for shape in ((1, 64 << 20), (1, 8), (8,)):
            bomb = dataclasses.replace(whole, shape=shape)
            rows = RowData(store=store, rows=blocks.astype(np.int64), columns=[(0, bomb)])
            # when it sends what would become 64 MiB, whatever it claims to be, then that is refused
            with pytest.raises(ValueError, match=r"for a column of|should have 8"):
                remote.calls.insert(remote.session.name, InsertBatch(data=[rows]))
        fine = np.zeros((1, 8), np.uint8)
        for numbers, columns in (
            (np.repeat(blocks, 9).astype(np.int64), [(0, np.zeros((9, 8), np.uint8))]),
            (blocks.astype(np.int64), [(0, fine), (0, fine)]),
            (blocks.astype(np.int64), [(1, fine)]),
        ):
            with pytest.raises(ValueError, match=r"9 rows for 1 blocks|of which there are 1"):
                remote.calls.insert(
                    remote.session.name, InsertBatch(data=[RowData(store=store, rows=numbers, columns=columns)])
                )
