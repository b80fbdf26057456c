"""Structured writers against plain lists of steps: any rules, steps in parts or without columns, ends of episodes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fuzzing import examples
from kourou.replay import Client, ItemRule, Moment, Server, Table
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo

_COLUMNS: dict[str, tuple[str, ...]] = {"a": ("a",), "b": ("b",), "z": ("c", "z")}
_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Pick:
    """``past[column][start:stop:stride]``; ``past[column][start]`` without a stride."""

    column: str
    start: int
    stop: int
    stride: int | None

    @property
    def steps(self) -> range:
        return range(self.start, self.start + 1) if self.stride is None else range(self.start, self.stop, self.stride)

    def of(self, past: Any) -> Any:
        for name in _COLUMNS[self.column]:
            past = past[name]
        return past[self.start] if self.stride is None else past[self.start : self.stop or None : self.stride]


@dataclasses.dataclass(frozen=True)
class Condition:
    kind: str
    number: int

    def __call__(self, moment: Moment) -> bool:
        match self.kind:
            case "index":
                return moment.step_index % self.number == 0
            case "since":
                return moment.steps_since_applied is None or moment.steps_since_applied >= self.number
            case "end":
                return moment.is_end_of_episode
            case "data":
                return bool(moment.step["flag"] % self.number == 0)
        return True


@dataclasses.dataclass(frozen=True)
class Rule:
    picks: list[Pick]
    when: Condition
    computed: bool  # its priority

    def make(self) -> ItemRule:
        priority: float | Callable[[Any], float] = (lambda item: float(item[0].sum())) if self.computed else 2.5
        return ItemRule("t", lambda past: [pick.of(past) for pick in self.picks], priority, self.when)


@dataclasses.dataclass(frozen=True)
class End:
    """Of an episode; an open step is thrown away with it."""

    clear: bool
    leave_open: bool


Step = list[list[str]]  # the columns of each of its parts
picks = st.builds(
    lambda column, start, length, stride: Pick(column, start, min(0, start + length), stride),
    st.sampled_from(sorted(_COLUMNS)),
    st.integers(-5, -1),
    st.integers(1, 5),
    st.sampled_from([None, 1, 1, 2]),
)
conditions = st.builds(Condition, st.sampled_from(["always", "index", "since", "end", "data"]), st.integers(1, 4))
rules = st.builds(Rule, st.lists(picks, min_size=1, max_size=3), conditions, st.booleans())
full_steps = st.sampled_from([[["a", "b", "z"]], [["a"], ["b", "z"]], [["z"], [], ["b"], ["a"]]])
poor_steps = st.sampled_from([[["a", "b"]], [["z"], ["a"]], [[]], [["b"], []]])
actions = st.one_of(full_steps, full_steps, full_steps, poor_steps, st.builds(End, st.booleans(), st.booleans()))


class Model:
    """What a structured writer does, with lists."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules
        self.past: list[dict[str, Any]] = []
        self.index = -1
        self.applied: list[int | None] = [None] * len(rules)
        self.items: list[tuple[float, list[Any]]] = []

    def append(self, step: dict[str, Any], seen: dict[str, Any]) -> None:
        self.past.append(step)
        self.seen = seen
        self.index += 1
        self.apply(is_end=False)

    def end(self, *, clear: bool, is_open: bool) -> None:
        if self.index >= 0 and not is_open:
            self.apply(is_end=True)
        self.index = -1
        self.applied = [None] * len(self.rules)
        if clear:
            self.past = []

    def apply(self, *, is_end: bool) -> None:
        for number, rule in enumerate(self.rules):
            last = self.applied[number]
            since = None if last is None else self.index - last
            moment = Moment(step_index=self.index, steps_since_applied=since, is_end_of_episode=is_end, step=self.seen)
            if since == 0 or not rule.when(moment):
                continue
            item = []
            for pick in rule.picks:
                steps = [self.past[at] for at in pick.steps if -at <= len(self.past)]
                rows = [step[pick.column] for step in steps if pick.column in step]
                if len(rows) < len(pick.steps):
                    break
                item.append(rows[0] if pick.stride is None else np.stack(rows))
            else:
                self.items.append((float(item[0].sum()) if rule.computed else 2.5, item))
                self.applied[number] = self.index


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server([Table("t", Fifo(), Fifo(), 10_000, MinSize(1))]) as server:
        yield server


@pytest.fixture(scope="module", params=["local", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    with Client(server.address, lane=request.param) as client:
        yield client


def nested(columns: dict[str, Any]) -> dict[str, Any]:
    step = {name: value for name, value in columns.items() if name != "z"}
    return {**step, "c": {"z": columns["z"], "unused": np.zeros(3)}} if "z" in columns else step


@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rules=st.lists(rules, min_size=1, max_size=3),
    actions=st.lists(actions, min_size=1, max_size=25),
)
def test_a_structured_writer_is_its_model(client: Client, rules: list[Rule], actions: list[Step | End]) -> None:
    # given rules, and the same of lists
    client.reset("t")
    model = Model(rules)
    with client.structured_writer([rule.make() for rule in rules]) as writer:
        for action in actions:
            # when steps are appended, some in parts and some without a column, or an episode ends
            if isinstance(action, End):
                if action.leave_open:
                    writer.append({"a": np.array(-1)}, partial_step=True)
                writer.end_episode(clear_buffers=action.clear)
                model.end(clear=action.clear, is_open=action.leave_open)
            else:
                mark = next(_numbers)
                values = {"a": np.array(mark), "b": np.array([mark, -mark], np.float32), "z": np.array(mark / 2)}
                for number, part in enumerate(action, 1):
                    is_last = number == len(action)
                    data = nested({name: values[name] for name in part}) | ({"flag": mark} if is_last else {})
                    writer.append(data, partial_step=not is_last)
                    assert writer.step_is_open != is_last
                model.append({name: values[name] for part in action for name in part}, {"flag": mark})
            assert writer.episode_steps == model.index + 1
    # then the same items are there, in the order in which they were made
    found = client.items("t", 0, 10_000)
    assert [sample.info.priority for sample in found] == [priority for priority, _ in model.items]
    for sample, (_, item) in zip(found, model.items, strict=True):
        assert len(sample.data) == len(item)
        for array, expected in zip(sample.data, item, strict=True):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)
