"""Arrays of every dtype arrive as they were, by every way into a table, or are refused by name."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest

from kourou.errors import SignatureError
from kourou.replay import Checkpointer, Client, Server, Table, TensorSpec
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo
from kourou.replay.storage.layout import ColumnSpec
from optional import is_there, optional
from replay.conftest import Connect, Serve

torch = optional("torch")
dataset = optional("kourou.replay.dataset")
pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(not is_there("torch"), reason="torch is not installed"),
]


def table(**options: Any) -> Table:
    return Table("t", Fifo(), Fifo(), 1000, MinSize(1), **options)


def arrays() -> dict[str, Any]:
    """Of each kind of dtype one, [4, 3]."""
    kinds: list[Any] = [
        "?", "i1", "u8", ">i4", "f2", ">f8", "c8", "U3", "S5", "M8[ns]", "m8[D]", "V7",
        [("id", "i4")],
        [("pos", "f4", (2,)), ("id", ">i8")],
        {"names": ["a", "b"], "formats": ["i4", "u1"], "offsets": [4, 0], "itemsize": 12},
        (np.record, [("a", "i2"), ("b", [("c", "f8")])]),
    ]  # fmt: skip
    with contextlib.suppress(ImportError):
        ml_dtypes: Any = importlib.import_module("ml_dtypes")  # as JAX has them
        kinds += [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4]
    chance = np.random.default_rng(0)
    found = {}
    for number, kind in enumerate(kinds):
        dtype = np.dtype(kind)
        if dtype.kind in "USMm":
            found[f"column{number}"] = chance.integers(0, 100, (4, 3)).astype(dtype)
        else:
            raw = chance.integers(0, 2, (4, 3 * dtype.itemsize), np.uint8)
            found[f"column{number}"] = raw.view(dtype).reshape(4, 3)
    return found


def insert(client: Client, data: dict[str, Any]) -> None:
    for row in range(4):
        client.insert({name: array[row] for name, array in data.items()}, {"t": 1.0})


def insert_batch(client: Client, data: dict[str, Any]) -> None:
    client.insert_batch("t", data)


def append(client: Client, data: dict[str, Any]) -> None:
    with client.trajectory_writer(2) as writer:
        for row in range(4):
            writer.append({name: array[row] for name, array in data.items()})
            writer.create_item("t", 1.0, {name: writer.history[name][-1] for name in data})


def append_batch(client: Client, data: dict[str, Any]) -> None:
    with client.batch_writer(4, 2) as writer:
        writer.append(data)
        writer.create_items("t", 1.0, {name: writer.history[name][-1] for name in data})


WAYS = [insert, insert_batch, append, append_batch]
Way = Callable[[Client, dict[str, Any]], None]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_what_arrives_is_what_was_given(serve: Serve, connect: Connect, way: Way, compression: str | None) -> None:
    server = serve(table())
    client = connect(server)
    client.server_info()  # so that it has a lane
    with Client(server.address, lane=client.lane, compression=compression) as other:
        data = arrays()
        way(other, data)
        got = other.items("t").data
    for name, array in data.items():
        assert got[name].dtype == array.dtype
        assert np.array_equal(got[name], array)


def test_checkpoints_have_them_as_they_were(tmp_path: Path) -> None:
    data = arrays()
    with Server([table()], checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        client.insert_batch("t", data)
        client.checkpoint()
    with Server([table()], checkpointer=Checkpointer(tmp_path)) as server, server.localhost_client() as client:
        got = client.items("t").data
    for name, array in data.items():
        assert got[name].dtype == array.dtype
        assert np.array_equal(got[name], array)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "masked": (lambda: np.ma.masked_array([1.0, 2.0, 3.0, 4.0], [True, False, False, True]), r"\['x'\].*\.filled"),
    "bfloat16": (lambda: torch.ones(4, dtype=torch.bfloat16), r"\['x'\].*BFloat16.*\.float\(\)"),
    "float8": (lambda: torch.ones(4).to(torch.float8_e4m3fn), r"\['x'\].*\.view\(torch\.uint8\)"),
    "gradient": (lambda: torch.ones(4, requires_grad=True), r"\['x'\].*\.detach\(\)"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_arrive_as_it_is_is_refused_by_its_column(serve: Serve, case: str, way: Way) -> None:
    make, message = REFUSED[case]
    value = make()
    if way in (insert, append):
        value = [value] * 4  # of each step one
    with Client(serve(table()).address) as client:
        with pytest.raises(ValueError, match=message):
            way(client, {"x": value} if not isinstance(value, list) else {"x": _Rows(value)})
        assert client.server_info()["t"].current_size == 0


class _Rows:
    """Something whose rows are given one by one."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def __getitem__(self, row: int) -> Any:
        return self._rows[row]


@pytest.mark.parametrize("way", WAYS)
def test_objects_are_no_arrays(serve: Serve, way: Way) -> None:
    with (
        Client(serve(table()).address) as client,
        pytest.raises(TypeError, match=r"\['x'\] is no array of a fixed dtype"),
    ):
        way(client, {"x": np.array([len, {1}, ..., print], object)})


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 2 has it")
def test_texts_that_lie_elsewhere_are_refused(serve: Serve) -> None:
    with Client(serve(table()).address) as client, pytest.raises(ValueError, match=r"\['x'\].*astype\('U'\)"):
        client.insert_batch("t", {"x": np.array(["a", "b"], np.dtypes.StringDType())})


def test_a_dtype_that_does_not_survive_its_description_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from kourou.replay.arrays import dtypes

    dtypes._is_whole.cache_clear()
    monkeypatch.setattr("pickle.loads", lambda _: np.dtype("V4"))
    with pytest.raises(ValueError, match=r"\['x'\].*cannot be described"):
        ColumnSpec(("x",), [("id", "i4")], ())
    dtypes._is_whole.cache_clear()


def test_texts_may_have_any_length(serve: Serve, connect: Connect) -> None:
    # given a writer of texts, some longer than those before
    client = connect(serve(table(signature={"text": TensorSpec((2,), str), "n": TensorSpec((2,), np.int64)})))
    texts = ["go", "", "north-north-west", "x", "a text of more characters than all of those before"]
    with client.trajectory_writer(2) as writer:
        for number, text in enumerate(texts):
            writer.append({"text": text, "n": number}, partial_step=number == 2)
            if number == 2:
                writer.append({"tag": b"z" * 9})
            if number:
                writer.create_item("t", 1.0, {name: writer.history[name][-2:] for name in ("text", "n")})
    # then all of them arrive, in one batch
    assert client.items("t").data["text"].tolist() == [list(pair) for pair in itertools.pairwise(texts)]
    # and where texts go, nothing else does
    with client.trajectory_writer(1) as writer:
        writer.append({"text": "a"})
        with pytest.raises(ValueError, match="wrong dtype"):
            writer.append({"text": b"a"})
        with pytest.raises(SignatureError):
            writer.create_item("t", 1.0, {"text": writer.history["text"][-1]})
    with client.batch_writer(1, 1) as batches:
        batches.append({"text": np.array(["abc"])})
        batches.append({"text": np.array(["a"])})
        with pytest.raises(ValueError, match="as long as any"):
            batches.append({"text": np.array(["abcd"])})


def test_none_is_what_is_not_given(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table()))
    with client.trajectory_writer(3) as writer:
        with pytest.raises(ValueError, match="at least one array"):
            writer.append({"a": None})
        writer.append({"a": np.array(1), "b": None, "c": [None, np.array(10)]})
        writer.append({"a": None, "b": np.array(2), "c": [np.array(3), None]})
        writer.append({"a": None, "b": None, "c": None})
        assert writer.episode_steps == 3
        history = writer.history
        writer.create_item("t", 1.0, [history["a"][-3], history["b"][-2], history["c"][0][-2], history["c"][1][-3]])
        with pytest.raises(ValueError, match=r"lacks \['b'\]"):
            writer.create_item("t", 1.0, history["b"][-1])
    (item,) = client.items("t")
    assert [int(array) for array in item.data] == [1, 2, 3, 10]


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass(frozen=True)
class Step:
    observation: Any
    action: Any
    extra: Any = None


@attrs.frozen
class Frame:
    image: Any
    pair: Pair


def test_steps_may_be_dataclasses_and_the_like(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table()))
    with client.trajectory_writer(2) as writer:
        for number in range(3):
            writer.append(Step(Frame(np.full(2, number), Pair(number, -number)), {"move": number}))
        history = writer.history
        assert isinstance(history, Step)
        assert history.extra is None
        writer.create_item("t", 1.0, Step(history.observation, history.action["move"][-1]).observation.image[-2:])
        writer.create_item("t", 1.0, Pair(history.observation.image[-1], history.action["move"][-2:]))
    first, second = client.items("t")
    assert first.data.tolist() == [[1, 1], [2, 2]]
    assert isinstance(second.data, Pair)
    assert second.data.second.tolist() == [1, 2]
    client.insert(Step(np.zeros(1), 2, 3), {"t": 1.0})
    *_, last = client.items("t")
    assert (last.data.action, last.data.extra) == (2, 3)


def test_a_data_set_has_bfloat16_and_names_what_is_no_tensor(serve: Serve) -> None:
    with Client(serve(table()).address) as client:
        client.insert_batch("t", {"x": np.array(["a"])})
        with pytest.raises(TypeError, match=r"\['x'\] of <U1 are no tensors"):
            next(iter(dataset.ReplayDataset(client, "t", 1)))
        ml_dtypes = pytest.importorskip("ml_dtypes")
        client.reset("t")
        client.insert_batch("t", {"x": np.array([1.5], ml_dtypes.bfloat16), "y": np.array([2], ml_dtypes.float8_e5m2)})
        data = next(iter(dataset.ReplayDataset(client, "t", 1))).data
    assert (data["x"].dtype, data["x"].tolist()) == (torch.bfloat16, [1.5])
    assert (data["y"].dtype, data["y"].float().tolist()) == (torch.float8_e5m2, [2.0])
