"""Items by rules, against what one would make by hand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from kourou.errors import SignatureError
from kourou.replay import Client, ItemRule, Table, TensorSpec, infer_signature, td_error
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo
from replay.conftest import Connect, Serve

pytestmark = pytest.mark.usefixtures("no_leaks")


def table(name: str = "t", **options: Any) -> Table:
    return Table(name, Fifo(), Fifo(), 1000, MinSize(1), **options)


def items(client: Client, name: str = "t") -> list[Any]:
    return [sample.data for sample in client.items(name)]


def test_windows_of_an_episode(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table("t"), table("u")))
    rules = [
        ItemRule("t", lambda past: {"x": past["x"][-3:], "last": past["x"][-1], "y": (past["y"]["z"][-3:-1],)}),
        ItemRule("u", lambda past: [past["x"][-5::2]], when=lambda moment: moment.step_index % 2 == 0),
    ]
    with client.structured_writer(rules) as writer:
        for first in (0, 100):
            for number in range(first, first + 7):
                writer.append({"x": np.array(number), "y": {"z": np.full(2, -number), "unused": np.zeros(9)}})
            assert writer.episode_steps == 7
            writer.end_episode()
    starts = [*range(5), *range(100, 105)]
    assert [item["x"].tolist() for item in items(client)] == [[n, n + 1, n + 2] for n in starts]
    assert [int(item["last"]) for item in items(client)] == [n + 2 for n in starts]
    assert [item["y"][0].tolist() for item in items(client)] == [[[-n] * 2, [-n - 1] * 2] for n in starts]
    assert [item[0].tolist() for item in items(client, "u")] == [[0, 2, 4], [2, 4, 6], [100, 102, 104], [102, 104, 106]]


def test_a_rule_knows_when_it_was_applied_and_when_the_episode_ends(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table("spaced"), table("end"), table("data")))
    rules = [
        ItemRule("spaced", lambda past: past["x"][-1], when=lambda m: (m.steps_since_applied or 3) >= 3),
        ItemRule("end", lambda past: past["x"][-2:], when=lambda m: m.is_end_of_episode),
        ItemRule("data", lambda past: past["x"][-1], when=lambda m: m.step["wanted"]),
    ]
    with client.structured_writer(rules) as writer:
        for length in (5, 1, 4):
            for number in range(length):
                writer.append({"x": np.array(number), "wanted": number == 3})
            writer.end_episode()
    assert [int(item) for item in items(client, "spaced")] == [0, 3, 0, 0, 3]
    assert [item.tolist() for item in items(client, "end")] == [[3, 4], [2, 3]]
    assert [int(item) for item in items(client, "data")] == [3, 3]


def test_steps_in_parts_and_steps_that_lack_columns(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table()))
    with client.structured_writer([ItemRule("t", lambda past: (past["a"][-2:], past["b"][-1]))]) as writer:
        writer.append({"a": np.array(0)}, partial_step=True)
        assert writer.step_is_open
        with pytest.raises(ValueError, match="already"):
            writer.append({"a": np.array(0)})
        writer.append({"b": np.array(0), "unused": np.array(0)})
        assert not writer.step_is_open
        writer.append({"a": np.array(1)}, partial_step=True)
        writer.append({"unused": np.array(0)}, partial_step=True)
        writer.append({"b": np.array(10)})
        writer.append({"b": np.array(20)})  # no "a": nothing can be made of it, nor of the next one
        writer.append({"a": np.array(3), "b": np.array(30)})
        writer.append({"a": np.array(4), "b": np.array(40)})
    assert [(a.tolist(), int(b)) for a, b in items(client)] == [([0, 1], 10), ([3, 4], 40)]


class Step(NamedTuple):
    obs: Any
    errors: Any


def test_priorities_are_computed_from_items(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table("fixed"), table("computed")))
    rules = [
        ItemRule("fixed", lambda past: past.obs[0][-1], priority=7.0),
        ItemRule("computed", lambda past: {"e": past.errors[-2:]}, td_error(lambda item: item["e"], 0.75)),
    ]
    with client.structured_writer(rules) as writer:
        for number in range(3):
            writer.append(Step([np.array(number), np.zeros(3)], np.array(-2.0 * number)))
    assert client.items("fixed").priorities.tolist() == [7.0] * 3
    assert client.items("computed").priorities.tolist() == [0.75 * 2 + 0.25 * 1, 0.75 * 4 + 0.25 * 3]


def test_a_rule_tells_its_signature(serve: Serve, connect: Connect) -> None:
    rule = ItemRule("t", lambda past: {"x": past["x"][-3:], "y": past["y"][-1]})
    step = {"x": np.zeros((2, 3), np.float32), "y": TensorSpec((), np.int64)}
    signature = rule.signature(step)
    assert (signature["x"].shape, signature["x"].dtype) == ((3, 2, 3), np.float32)
    assert (signature["y"].shape, signature["y"].dtype) == ((), np.int64)
    client = connect(serve(table(signature=signature)))
    with client.structured_writer([rule]) as writer:
        for _ in range(3):
            writer.append({"x": np.zeros((2, 3), np.float32), "y": np.array(1)})
    assert len(items(client)) == 1
    other = ItemRule("t", lambda past: {"x": past["x"][-2:], "y": past["y"][-1]})
    with client.structured_writer([other]) as writer:
        writer.append({"x": np.zeros((2, 3), np.float32), "y": np.array(1)})
        with pytest.raises(SignatureError):
            writer.append({"x": np.zeros((2, 3), np.float32), "y": np.array(1)})
    with pytest.raises(ValueError, match="no"):
        rule.signature({"x": np.zeros(3)})


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (lambda past: past["x"][:], ValueError),
        (lambda past: past["x"][:-2], ValueError),
        (lambda past: past["x"][0:3], ValueError),
        (lambda past: past["x"][-3:1], ValueError),
        (lambda past: past["x"][-3:-3], ValueError),
        (lambda past: past["x"][-3::-1], ValueError),
        (lambda past: {"x": past["x"]}, TypeError),
        (lambda past: {"x": 3}, TypeError),
        (lambda past: {}, ValueError),
    ],
    ids=range(9),
)
def test_rules_without_meaning_are_refused(item: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        ItemRule("t", item)


def test_writers_and_priorities_without_meaning_are_refused(serve: Serve, connect: Connect) -> None:
    client = connect(serve(table()))
    with pytest.raises(ValueError, match="at least one rule"):
        client.structured_writer([])
    with pytest.raises(ValueError, match="max_weight"):
        td_error(lambda item: item, 1.5)


def test_one_signature_of_several_rules() -> None:
    step = {"x": np.zeros(3, np.float32), "n": np.array(0)}
    short = ItemRule("t", lambda past: {"x": past["x"][-2:], "n": past["n"][-1]})
    long = ItemRule("t", lambda past: {"x": past["x"][-5:], "n": past["n"][-3]})
    signature = infer_signature([short, long], step)
    assert (signature["x"].shape, signature["x"].dtype) == ((None, 3), np.float32)
    assert (signature["n"].shape, signature["n"].dtype) == ((), np.int64)
    assert infer_signature([short], step) == short.signature(step)
    for others in (
        [],
        [short, ItemRule("u", short.item)],
        [short, ItemRule("t", lambda past: {"x": past["x"][-2:]})],
        [short, ItemRule("t", lambda past: {"x": past["n"][-2:], "n": past["n"][-1]})],
        [short, ItemRule("t", lambda past: {"x": past["x"][-2:], "n": past["n"][-2:]})],
    ):
        with pytest.raises(ValueError, match=r"a signature is of|differ in"):
            infer_signature(others, step)
