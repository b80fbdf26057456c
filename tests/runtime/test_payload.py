"""Payloads: one for each node, each part stored once by its content, and the content is the right one."""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np
import pytest

import kourou as lp
from kourou.runtime.plan.payloads import Payloads, load_payload, store_blobs

MEGABYTE = 1_000_000


def run(*args):
    pass


def _arguments(payload, folder):
    return load_payload(payload, folder).arguments()["args"]


def test_fifty_nodes_share_one_array_of_ten_megabytes(tmp_path):
    # Given nodes with a large array in common, and something of their own.
    array = np.arange(10 * MEGABYTE // 8, dtype=np.int64)
    program = lp.Program("p")
    with program.group("node"):
        for index in range(50):
            program.add_node(lp.PyNode(run, {"table": array}, index))
    # When the program is compiled and stored.
    plan: Any = lp.compile_program(program, "local_mp")
    store_blobs(plan.blobs, tmp_path / "payloads")
    # Then the array is there once, and every node gets it.
    stored = sum(path.stat().st_size for path in (tmp_path / "payloads").iterdir())
    assert array.nbytes < stored < array.nbytes + MEGABYTE
    assert len({buffer for node in plan.nodes for buffer in node.process.payload.buffers}) == 1
    for index in (0, 49):
        payload = plan.nodes[index].process.payload
        assert payload.size_bytes >= array.nbytes
        table, own = _arguments(payload, tmp_path / "payloads")
        assert own == index
        assert np.array_equal(table["table"], array)


def test_equal_arrays_are_stored_once_whoever_owns_them():
    payloads = Payloads()
    first = payloads.add(lp.PyNode(run, np.zeros(MEGABYTE)))
    second = payloads.add(lp.PyNode(run, np.zeros(MEGABYTE)))
    assert first.buffers == second.buffers
    assert len(payloads.blobs) == 3 - (first.stream == second.stream)


class Fresh:
    """Pickles an array that exists only while it is pickled."""

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return np.asarray, (np.full(MEGABYTE, self.value, dtype=np.uint8),)


def test_arrays_that_live_only_while_they_are_pickled_keep_their_content(tmp_path):
    # Given nodes whose arrays are made when they are pickled, so that one may lie where another one lay.
    values = [0, 0, 1, 1, 2, 0, 3, 3, 4]
    payloads = Payloads()
    made = [payloads.add(lp.PyNode(run, Fresh(value))) for value in values]
    store_blobs(payloads.blobs, tmp_path)
    # When they are unpickled, then each has its own content.
    assert [int(_arguments(payload, tmp_path)[0][0]) for payload in made] == values


def test_what_is_stored_once_more_is_left_alone_since_somebody_may_read_it(tmp_path):
    # Given a payload that somebody has mapped
    payloads = Payloads()
    made = payloads.add(lp.PyNode(run, np.zeros(MEGABYTE, np.uint8)))
    store_blobs(payloads.blobs, tmp_path)
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    array = _arguments(made, tmp_path)[0][0]
    # When nodes are added that need the same
    store_blobs(dict.fromkeys(payloads.blobs, b""), tmp_path)
    # Then nothing is written, and no file is there beside
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
    assert not array.any()


class Window:
    """Pickles a part of a larger buffer."""

    def __init__(self, buffer, start):
        self.buffer = buffer
        self.start = start

    def __reduce_ex__(self, protocol):
        return bytes, (pickle.PickleBuffer(memoryview(self.buffer)[self.start : self.start + 100_000]),)


def test_parts_of_one_buffer_are_told_apart(tmp_path):
    buffer = bytearray(os.urandom(300_000))
    payloads = Payloads()
    made = [payloads.add(lp.PyNode(run, Window(buffer, start))) for start in (0, 100_000, 200_000)]
    store_blobs(payloads.blobs, tmp_path)
    loaded = [_arguments(payload, tmp_path)[0] for payload in made]
    assert b"".join(loaded) == bytes(buffer)


def test_arrays_come_back_writable(tmp_path):
    payloads = Payloads()
    payload = payloads.add(lp.PyNode(run, np.zeros(MEGABYTE), np.zeros(3)))
    store_blobs(payloads.blobs, tmp_path)
    large, small = _arguments(payload, tmp_path)
    large[0] = small[0] = 1.0
    assert (large[0], small[0]) == (1.0, 1.0)


def test_slices_and_odd_types_of_arrays_travel(tmp_path):
    base = np.arange(MEGABYTE)
    arrays = (
        base[::2],
        base[10:],
        base.reshape(1000, 1000).T,
        np.array(["2020-01-01"] * 100_000, dtype="datetime64[D]"),
        np.zeros(0),
    )
    payloads = Payloads()
    payload = payloads.add(lp.PyNode(run, *arrays))
    store_blobs(payloads.blobs, tmp_path)
    for original, loaded in zip(arrays, _arguments(payload, tmp_path), strict=True):
        assert loaded.dtype == original.dtype
        assert np.array_equal(loaded, original)


@pytest.mark.parametrize("of_buffer", [False, True])
def test_a_part_that_is_not_what_was_stored_is_refused(tmp_path, of_buffer):
    # Given a payload, one of whose parts somebody has replaced
    payloads = Payloads()
    payload = payloads.add(lp.PyNode(run, np.zeros(MEGABYTE)))
    store_blobs(payloads.blobs, tmp_path)
    name = payload.buffers[0] if of_buffer else payload.stream
    (tmp_path / name).write_bytes(pickle.dumps("another"))
    # When, Then
    with pytest.raises(lp.errors.LaunchError, match=f"{name} is not what the launcher wrote"):
        load_payload(payload, tmp_path)
