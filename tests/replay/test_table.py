"""Tables, against a model that does one thing at a time."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou.replay.protocol.item_batches import Items
from kourou.replay.rate_limiters import MinSize, Queue, RateLimiter, SampleToInsertRatio
from kourou.replay.selectors import Custom, Fifo, Lifo, MaxHeap, MinHeap, Prioritized, Selector, Uniform
from kourou.replay.table.hooks import Event, Extension
from kourou.replay.table.lock import TableLock
from kourou.replay.table.requests import InsertRequest, SampleRequest
from kourou.replay.table.table import Table
from replay.models import ModelTable, episode_of

SELECTORS = st.sampled_from([Fifo(), Lifo(), MinHeap(), MaxHeap()])
LIMITERS = st.sampled_from(
    [MinSize(1), MinSize(4), Queue(3), Queue(1), SampleToInsertRatio(2.0, 2, 5.0), RateLimiter(0.5, 3, -2.0, 4.0)]
)
PRIORITIES = st.sampled_from([0.0, 1.0, 1.0, 2.0, 5.0])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.lists(st.tuples(PRIORITIES, st.integers(1, 5)), min_size=1, max_size=8)),
        st.tuples(st.just("sample"), st.integers(1, 9)),
        st.tuples(
            st.just("mutate"),
            st.tuples(
                st.lists(st.tuples(st.integers(1, 30), PRIORITIES), max_size=5),
                st.lists(st.integers(1, 30), max_size=4),
            ),
        ),
    ),
    max_size=25,
)


def items_of(triples: list[tuple[int, float, int]], policy_version: int = -1) -> Items:
    keys, priorities, sizes = zip(*triples, strict=True)
    return Items(
        keys=np.array(keys, np.uint64),
        priorities=np.array(priorities, np.float64),
        refs=np.array([[key, key, key] for key in keys], np.int32),
        sizes=np.array(sizes, np.int64),
        episodes=np.array([episode_of(key) for key in keys], np.uint64),
        policy_versions=np.full(len(keys), policy_version),
    )


def insert(table: Table, *triples: tuple[int, float, int], policy_version: int = -1) -> InsertRequest:
    request = InsertRequest(items_of(list(triples), policy_version), lambda: True, ignore)
    table.insert(request)
    return request


def ignore(_: object) -> None:
    """What is told at the end of a request."""


def sample(table: Table, count: int = 1) -> SampleRequest:
    request = SampleRequest(count, lambda: True, ignore)
    table.sample(request)
    return request


def keys_of(request: SampleRequest) -> list[int]:
    return [key for part in request.parts for key in part.info["key"].tolist()]


class Holder:
    """Counts who holds what."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}

    def acquire(self, refs: np.ndarray) -> None:
        for ref in refs[:, 0].tolist():
            self.held[ref] = self.held.get(ref, 0) + 1

    def release(self, refs: np.ndarray) -> None:
        for ref in refs[:, 0].tolist():
            self.held[ref] -= 1
            assert self.held[ref] >= 0
            if not self.held[ref]:
                del self.held[ref]


@settings(max_examples=examples(300))
@given(
    sampler=SELECTORS,
    remover=SELECTORS,
    max_size=st.integers(1, 7),
    limiter=LIMITERS,
    max_times=st.integers(0, 3),
    max_bytes=st.sampled_from([None, None, 5, 11]),
    operations=OPERATIONS,
)
def test_a_table_is_its_model(
    sampler: Selector,
    remover: Selector,
    max_size: int,
    limiter: RateLimiter,
    max_times: int,
    max_bytes: int | None,
    operations: list[tuple[str, Any]],
) -> None:
    table = Table("t", sampler, remover, max_size, limiter, max_times, max_bytes=max_bytes)
    holder = Holder()
    table.state.references = holder
    model = ModelTable(sampler, remover, max_size, limiter, max_times, max_bytes)
    keys = itertools.count(1)
    requests: list[SampleRequest] = []
    for what, argument in operations:
        if what == "insert":
            triples = [(next(keys), priority, size) for priority, size in argument]
            items = items_of(triples)
            holder.acquire(items.refs)
            table.insert(InsertRequest(items, lambda: True, ignore))
            model.waiting_inserts.append(list(triples))
            model.serve()
        elif what == "sample":
            requests.append(sample(table, argument))
            model.waiting_samples.append([argument])
            model.serve()
        else:
            updates, deletes = argument
            applied = table.mutate(
                np.array([key for key, _ in updates], np.uint64),
                np.array([priority for _, priority in updates], np.float64),
                np.array(deletes, np.uint64),
            )
            assert applied == model.mutate(updates, deletes)
        drawn = [
            (int(key), int(size), float(priority), int(times))
            for request in requests
            for part in request.parts
            for key, size, priority, times in zip(
                *(part.info[name] for name in ("key", "table_size", "priority", "times_sampled")), strict=True
            )
        ]
        assert drawn == model.drawn
        slots = table.state.slots()
        assert table.state.items.keys[slots].tolist() == [item.key for item in model.items]
        assert table.state.items.priorities[slots].tolist() == [item.priority for item in model.items]
        info = table.info
        assert (info.inserts, info.samples, info.deletes) == (model.inserts, model.samples, model.deletes)
        assert info.num_unique_samples == model.unique
        assert info.num_episodes == len(model.episodes())
        if isinstance(remover, Fifo):  # others may remove at once what came with the same message, piece by piece
            assert info.num_deleted_episodes == model.deleted_episodes
        assert info.current_bytes == sum(item.size for item in model.items)
        assert (info.waiting_inserts, info.waiting_samples) == (
            len(model.waiting_inserts),
            len(model.waiting_samples),
        )
        assert table.can_sample(2) == model.can_sample(2)
        assert table.can_insert(2) == model.can_insert(2)
    # Whoever holds data is an item, a request that waits, or somebody who took samples.
    held = [item.key for item in model.items] + [key for part in model.waiting_inserts for key, *_ in part]
    held += [key for key, *_ in model.drawn]
    assert sum(holder.held.values()) == len(held)
    assert set(holder.held) == set(held)


@settings(max_examples=examples(60))
@given(
    sampler=st.sampled_from([Uniform(1), Prioritized(1.0, 1)]),
    remover=st.sampled_from([Uniform(2), Prioritized(0.5, 2), Fifo(), MinHeap()]),
    max_times=st.integers(0, 3),
    batches=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=8),
)
def test_random_tables_keep_their_bounds(
    sampler: Selector, remover: Selector, max_times: int, batches: list[tuple[int, int]]
) -> None:
    table = Table("t", sampler, remover, 13, MinSize(1), max_times)
    key, seen = 0, dict[int, int]()
    for inserted, sampled in batches:
        insert(table, *((key + index, 1.0 + index, 1) for index in range(1, inserted + 1)))
        key += inserted
        assert len(table) <= 13
        request = sample(table, sampled)
        for part in request.parts:
            for one, times, probability in part.info[["key", "times_sampled", "probability"]].tolist():
                seen[int(one)] = seen.get(int(one), 0) + 1
                assert times == seen[int(one)]
                assert not max_times or times <= max_times
                assert 0 < probability <= 1
        assert len(request.parts) or not len(table)
        table.withdraw(request)
    assert table.info.inserts - table.info.deletes == len(table) == table.info.current_bytes


def test_a_queue_gives_each_item_once_in_order() -> None:
    table = Table.queue("q", 3)
    assert insert(table, (1, 0.0, 1), (2, 0.0, 1), (3, 0.0, 1)).future.done()
    waiting_insert = insert(table, (4, 0.0, 1))
    assert not waiting_insert.future.done()
    assert keys_of(sample(table)) == [1]
    assert waiting_insert.future.done()
    rest = sample(table, 4)
    assert keys_of(rest) == [2, 3, 4]
    insert(table, (5, 0.0, 1))
    assert keys_of(rest) == [2, 3, 4, 5]
    assert rest.future.done()


def test_what_old_weights_made_goes() -> None:
    # given a table with items of several policy versions, and of none
    table = Table("t", Uniform(), Fifo(), 100, MinSize(1), max_policy_lag=2)
    for key, version in ((1, 10), (2, -1), (3, 11), (4, 12)):
        insert(table, (key, 1.0, 1), policy_version=version)
    # when there is one of a newer version, and then an actor that is late
    insert(table, (5, 1.0, 1), policy_version=13)
    insert(table, (6, 1.0, 1), policy_version=9)
    # then what is more than max_policy_lag behind the newest is there no more
    assert set(keys_of(sample(table, 200))) == {2, 3, 4, 5}
    assert table.info.max_policy_lag == 2


def test_what_goes_for_its_policy_version_leaves_room_in_a_queue() -> None:
    table = Table.queue("q", 2).replace(max_policy_lag=0)
    insert(table, (1, 0.0, 1), (2, 0.0, 1), policy_version=1)
    waits = insert(table, (3, 0.0, 1), policy_version=2)
    assert keys_of(sample(table)) == [1]  # which lets the third in, and the second go
    assert waits.future.done()
    assert insert(table, (4, 0.0, 1), policy_version=2).future.done()
    assert keys_of(sample(table, 2)) == [3, 4]


def test_a_stack_gives_the_newest() -> None:
    table = Table.stack("s", 3)
    insert(table, (1, 0.0, 1), (2, 0.0, 1), (3, 0.0, 1))
    assert keys_of(sample(table, 2)) == [3, 2]


def test_deletes_keep_the_capacity_of_a_queue() -> None:
    # given a full queue
    table = Table.queue("q", 10)
    insert(table, *((key, 0.0, 1) for key in range(1, 11)))
    # when everything is deleted by key
    nothing = np.empty(0)
    assert table.mutate(nothing.astype(np.uint64), nothing, np.arange(1, 11, dtype=np.uint64)) == 10
    # then there is room for ten again, and not for eleven
    assert insert(table, *((key, 0.0, 1) for key in range(11, 21))).future.done()
    assert not insert(table, (21, 0.0, 1)).future.done()


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_a_bad_priority_harms_nobody(bad: float) -> None:
    table = Table("t", Prioritized(1.0), Fifo(), 10, MinSize(1))
    insert(table, (1, 1.0, 1))
    with pytest.raises(ValueError, match="priorit"):
        insert(table, (2, 1.0, 1), (3, bad, 1))
    with pytest.raises(ValueError, match="priorit"):
        table.mutate(np.array([1], np.uint64), np.array([bad]), np.array([], np.uint64))
    assert len(table) == 1
    insert(table, (2, 5.0, 1))
    assert set(keys_of(sample(table, 100))) == {1, 2}


def test_a_known_key_gets_its_new_priority_and_does_not_wait() -> None:
    table = Table("t", MaxHeap(), Fifo(), 10, Queue(2))
    insert(table, (1, 1.0, 1), (2, 2.0, 1))
    assert insert(table, (1, 3.0, 1)).future.done()
    assert table.info.inserts == 2
    assert keys_of(sample(table)) == [1]


def test_another_limiter_wakes_those_who_wait() -> None:
    table = Table("t", Fifo(), Fifo(), 10, MinSize(5))
    insert(table, (1, 1.0, 1))
    request = sample(table)
    assert not request.future.done()
    assert "at least 5" in table.info.blocked_on
    table.set_rate_limiter(MinSize(1))
    assert request.future.done()


def test_an_item_that_can_never_fit_is_refused() -> None:
    table = Table("t", Fifo(), Fifo(), 10, MinSize(1), max_bytes=100)
    with pytest.raises(ValueError, match="101 bytes never fits"):
        insert(table, (1, 1.0, 101))


def test_a_request_that_nobody_wants_is_skipped() -> None:
    table = Table.queue("q", 3)
    wanted = [True]
    dead = SampleRequest(1, lambda: wanted[0], ignore)
    table.sample(dead)
    alive = sample(table)
    wanted[0] = False
    insert(table, (1, 1.0, 1))
    assert keys_of(alive) == [1]
    assert keys_of(dead) == []


@pytest.mark.parametrize("touched", [Table.maintain, sample], ids=["maintained", "served"])
def test_thousands_that_nobody_wants_any_more_are_let_go(touched: Callable[[Table], object]) -> None:
    # given a full queue, and writers far ahead of it
    table, holder, gone = Table.queue("q", 1), Holder(), threading.Event()
    table.adopt(TableLock(), holder)
    for key in range(1, 5001):
        items = items_of([(key, 1.0, 0)])
        holder.acquire(items.refs)
        table.insert(InsertRequest(items, lambda: not gone.is_set(), ignore))
    # when all of them leave at once
    gone.set()
    touched(table)
    # then none waits, and what they held is let go of
    assert (len(table.waiting), table.info.inserts, list(holder.held)) == (0, 1, [1])


def test_replace_makes_an_empty_table_like_it() -> None:
    table = Table("t", Uniform(), Fifo(), 10, MinSize(1), 2, signature={"a": np.zeros(3, np.float32)}, max_bytes=99)
    table.set_rate_limiter(MinSize(4))
    insert(table, (1, 1.0, 1))
    other = table.replace(name="u", max_size=5)
    assert (other.name, other.info.max_size, len(other)) == ("u", 5, 0)
    assert other.info.rate_limiter == MinSize(4)
    assert (other.info.signature, other.info.max_bytes) == (table.signature, 99)


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ({"name": ""}, ValueError),
        ({"max_size": 0}, ValueError),
        ({"max_bytes": 0}, ValueError),
        ({"sampler": "fifo"}, TypeError),
        ({"rate_limiter": 3}, TypeError),
        ({"signature": {"a": 3}}, TypeError),
    ],
)
def test_tables_without_meaning_are_refused(overrides: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Table.queue("q", 3).replace(**overrides)


def test_long_waits_are_logged_with_the_limiters_numbers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table.queue("q", 3)
    sample(table)
    sample(table)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 11)
    with caplog.at_level(logging.WARNING, "kourou.replay"):
        table.maintain()
        table.maintain()
    assert caplog.text.count("a sample of table q has been waiting for 10 s, and 1 behind it: ") == 1
    assert "size 0 of at least 1" in caplog.text


class EvenFirst:
    """A selector of one's own: even keys first, then odd ones."""

    def __init__(self) -> None:
        self.keys: list[int] = []

    def insert(self, key: int, priority: float) -> None:
        if priority == 13:
            raise ValueError("an unlucky priority")
        self.keys.append(key)

    def update(self, key: int, priority: float) -> None:
        assert key in self.keys

    def delete(self, key: int) -> None:
        self.keys.remove(key)

    def sample(self) -> tuple[int, float]:
        return min(self.keys, key=lambda key: (key % 2, key)), 1.0


def test_a_selector_of_ones_own() -> None:
    table = Table("t", Custom(EvenFirst), Custom(EvenFirst), 3, MinSize(1), 1)
    insert(table, (1, 0.0, 1), (2, 0.0, 1), (3, 0.0, 1), (4, 0.0, 1))
    assert sorted(table.state.items.keys[table.state.slots()].tolist()) == [1, 3, 4]
    refused = insert(table, (5, 0.0, 1), (6, 13.0, 1), (8, 0.0, 1))
    with pytest.raises(ValueError, match="unlucky"):
        refused.future.result()
    assert keys_of(sample(table, 3)) == [1, 3, 5]


class Listener(Extension):
    def __init__(self) -> None:
        self.heard: list[tuple[str, list[int]]] = []

    def on_insert(self, event: Event) -> None:
        self.heard.append(("insert", event.keys.tolist()))

    def on_sample(self, event: Event) -> None:
        self.heard.append(("sample", event.keys.tolist()))
        raise RuntimeError("a hook that fails")

    def on_update(self, event: Event) -> None:
        self.heard.append(("update", event.priorities.tolist()))

    def on_delete(self, event: Event) -> None:
        self.heard.append(("delete", event.keys.tolist()))

    def on_reset(self, table: str) -> None:
        self.heard.append(("reset", [len(table)]))


@pytest.mark.usefixtures("no_leaks")
def test_extensions_hear_of_everything_in_order(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener()
    table = Table("t", Fifo(), Fifo(), 2, MinSize(1), 2, extensions=[listener])
    insert(table, (1, 1.0, 1), (2, 1.0, 1), (3, 1.0, 1))
    sample(table, 2)
    table.mutate(np.array([3], np.uint64), np.array([9.0]), np.array([], np.uint64))
    table.reset()
    table.close()
    assert listener.heard == [
        ("delete", [1]),
        ("insert", [2, 3]),
        ("delete", [2]),
        ("sample", [2, 2]),
        ("update", [9.0]),
        ("reset", [1]),
    ]
    assert "a hook that fails" in caplog.text


def test_rates_and_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a table that gets ten items a second, and is sampled twenty times a second
    now, now_ns = 1000.0, 10**18
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    table = Table("t", Uniform(), Fifo(), 100_000, MinSize(1))
    assert table.info.ages_s is None
    for second in range(8):
        table.maintain()
        insert(table, *((10 * second + index + 1, 1.0, 1) for index in range(10)))
        sample(table, 20)
        now, now_ns = now + 1, now_ns + 10**9
    # then that is what it says
    info = table.info
    assert info.inserts_per_s == pytest.approx(10, rel=0.25)
    assert info.samples_per_s == pytest.approx(20, rel=0.25)
    assert info.ages_s == pytest.approx((1.0, 4.5, 8.0), abs=1e-3)
    # and when nothing happens any more, or it is reset, it says that, too
    for _ in range(8):
        now += 1
        table.maintain()
    assert table.info.inserts_per_s == 0
    table.reset()
    assert (table.info.inserts_per_s, table.info.ages_s) == (0, None)
    # and of many items, some are looked at
    insert(table, *((key, 1.0, 1) for key in range(1, 50_001)))
    now_ns += 5 * 10**9
    assert table.info.ages_s == pytest.approx((5.0, 5.0, 5.0), abs=1e-3)
    assert 500 < len(table.state.keymap.some_slots(1024)) < 5000


def test_a_table_describes_itself() -> None:
    table = Table.queue("q", 3)
    assert table.info.lines() == ["q: 0 of 3 items, 0 B; 0 inserts/s, 0 samples/s"]
    sample(table, 2)
    assert table.info.lines()[1].startswith("q: 1 samples wait: size 0 of at least 1")
    insert(table, *((key, 1.0, 700) for key in range(3, 9)))
    first, second = table.info.lines()
    assert first.startswith("q: 3 of 3 items of 1 episodes, 2 KiB; ")
    assert second.startswith("q: 1 inserts wait: size 3 of at least 1; inserts 5")
