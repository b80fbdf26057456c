"""Tables whose data lies in files on a disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from kourou.replay import Client, Server, Table

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(sys.platform != "linux", reason="data is in shared files on Linux only"),
]


@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_data_lies_in_files_that_leave_nothing_behind(tmp_path: Path, lane: str) -> None:
    folder = tmp_path / "spill"
    data = np.random.default_rng(0).random((300, 5000))
    with Server([Table.queue("q", 1000)], spill_dir=folder) as server, Client(server.address, lane=lane) as client:
        # when more is inserted than the files had room for at first, in two ways
        client.insert_batch("q", {"x": data})
        with client.trajectory_writer(2) as writer:
            for row in data:
                writer.append({"x": row})
                writer.create_item("q", 1.0, {"x": writer.history["x"][-1]})
        # then it lies there, in files without names
        (rows, *_) = (rows for store in server._data.stores for rows in store._rows)
        assert rows._descriptor is not None
        assert os.fstat(rows._descriptor).st_dev == folder.stat().st_dev
        assert os.fstat(rows._descriptor).st_blocks * 512 >= data.nbytes
        assert list(folder.iterdir()) == []
        # and comes out as it went in
        assert np.array_equal(client.sample_batch("q", 300).data["x"], data)
        assert np.array_equal(client.sample_batch("q", 300).data["x"], data)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        Server([Table.queue("q", 1000)], spill_dir=tmp_path / "file" / "below")
