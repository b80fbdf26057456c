"""Clients and servers, on every lane."""

from __future__ import annotations

import concurrent.futures
import gc
import pickle
import threading
import types
from typing import Any, cast

import numpy as np
import psutil
import pytest

from kourou.errors import DeadlineExceeded, KourouError, ServerOverloaded, SignatureError, TableNotFound
from kourou.replay import Client, Server, Table, TensorSpec
from kourou.replay.rate_limiters import MinSize, Queue
from kourou.replay.selectors import Fifo, MaxHeap, Prioritized, Uniform
from kourou.replay.table.requests import InsertRequest, SampleRequest
from polling import until
from replay.conftest import Connect, Serve

pytestmark = pytest.mark.usefixtures("no_leaks")


def uniform(name: str = "t", **options: Any) -> Table:
    return Table(name, Uniform(), Fifo(), 1000, MinSize(1), **options)


def blocks_used(server: Server) -> int:
    return sum(store.used for store in server._data.stores)


STEP = {
    "pixels": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "nested": [{"f": np.float64(1.5)}, (np.array([1, 2], np.int64), np.array(True))],
    "nothing": np.zeros((2, 0), np.float32),
    "text": np.array(b"abc"),
    "when": np.array("2026-01-01", "datetime64[s]"),
}


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        same = type(left) is type(right) and len(left) == len(right)
        return same and all(equal(*pair) for pair in zip(left, right, strict=True))
    return np.asarray(left).dtype == np.asarray(right).dtype and np.array_equal(left, right)


def test_small_rows_take_little_memory_of_a_client(serve: Serve, connect: Connect) -> None:
    # Given a store of flags, which has room for so many of them that even a byte for each would be a gigabyte
    client = connect(serve(uniform()))
    before = psutil.Process().memory_info().rss
    # When a client writes and reads there
    client.insert({"done": np.array(True)}, {"t": 1.0})
    (sample,) = client.sample("t")
    assert sample.data == {"done": True}
    # Then it does not
    assert psutil.Process().memory_info().rss - before < 100 << 20


def test_what_is_inserted_is_sampled(serve: Serve, connect: Connect) -> None:
    client = connect(serve(uniform()))
    keys = client.insert(STEP, {"t": 2.5})
    (sample,) = client.sample("t")
    assert equal(sample.data, STEP)
    assert sample.info[:5] == (keys["t"], 1.0, 1, 2.5, 1)
    assert 0 <= sample.info.age_s < 60


def test_batches_are_stacked(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 1000)))
    data = {"a": np.arange(300).reshape(100, 3), "b": np.arange(100, dtype=np.float32)}
    keys = client.insert_batch("q", data, np.arange(100))
    batch = client.sample_batch("q", 100)
    assert equal(batch.data, data)
    assert batch.keys.tolist() == keys.tolist()
    assert batch.priorities.tolist() == list(range(100))
    assert batch.info["table_size"].tolist() == list(range(100, 0, -1))
    assert (batch.ages_s >= 0).all()


def test_samples_carry_the_version_of_the_policy_that_acted(serve: Serve, connect: Connect) -> None:
    # given items of a writer whose weights change between them, and some that were inserted without one
    client = connect(serve(Table("t", Fifo(), Fifo(), 1000, MinSize(1))))
    with client.trajectory_writer(1) as writer:
        for version in (-1, 7, 7, 9):
            writer.policy_version = version
            writer.append({"x": np.array(version)})
            writer.create_item("t", 1.0, {"x": writer.history["x"][-1]})
    client.insert({"x": np.array(11)}, {"t": 1.0}, policy_version=11)
    client.insert_batch("t", {"x": np.array([12, 12])}, policy_version=12)
    # when they are looked at and sampled, then each says which version that was
    batch = client.items("t")
    assert batch.policy_versions.tolist() == batch.data["x"].tolist() == [-1, 7, 7, 9, 11, 12, 12]
    (sample,) = client.sample("t")
    assert sample.info.policy_version == -1


def test_tables_share_what_was_inserted_at_once(serve: Serve, connect: Connect) -> None:
    server = serve(uniform("a"), uniform("b"))
    client = connect(server)
    client.insert({"x": np.zeros(3)}, {"a": 1.0, "b": 2.0})
    reserve = blocks_used(server)
    client.reset("a")
    assert blocks_used(server) == reserve
    client.reset("b")
    assert blocks_used(server) == reserve - 1


def test_every_row_is_free_again_in_the_end(serve: Serve, connect: Connect) -> None:
    # given items of all kinds, some of them sampled, pushed out and deleted
    server = serve(Table("t", Prioritized(1.0), Fifo(), 50, MinSize(1)))
    client = connect(server)
    keys = client.insert_batch("t", {"a": np.zeros((80, 5))})
    client.mutate_priorities("t", deletes=keys[60:70])
    with client.trajectory_writer(4) as writer:
        for step in range(40):
            writer.append({"a": np.full(5, step, np.float64)})
            writer.create_item("t", 1.0, {"a": writer.history["a"][-2:]})
    client.sample_batch("t", 20)
    # when the table is emptied and the client is gone
    client.reset("t")
    client.close()
    # then nobody holds anything
    until(lambda: blocks_used(server) == 0, 10)


def test_keys_lead_to_items(serve: Serve, connect: Connect) -> None:
    client = connect(serve(uniform()))
    keys = client.insert_batch("t", {"a": np.arange(10)})
    assert client.items("t").keys.tolist() == keys.tolist()
    assert client.items("t", offset=3, limit=2).data["a"].tolist() == [3, 4]
    found = client.get("t", [int(keys[7]), 12345, int(keys[1])])
    assert found.data["a"].tolist() == [7, 1]
    assert np.isnan(found.probabilities).all()
    assert client.server_info()["t"].samples == 0


def test_priorities_are_written_back(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table("t", MaxHeap(), Fifo(), 1000, MinSize(1))))
    keys = client.insert_batch("t", {"a": np.arange(5)}, np.ones(5))
    assert client.mutate_priorities("t", (keys[3:], np.array([7.0, 9.0]))) == 2
    assert [sample.data["a"] for sample in client.sample("t")] == [4]
    assert client.mutate_priorities("t", {int(keys[3]): 10.0, 99: 5.0}, deletes=[int(keys[4]), 98]) == 2
    assert [sample.data["a"] for sample in client.sample("t")] == [3]


def test_time_outs(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 2)))
    for timeout in (0, 0.05):
        with pytest.raises(DeadlineExceeded, match="no item of table q") as caught:
            client.sample_batch("q", 1, timeout_s=timeout)
        assert isinstance(caught.value, TimeoutError)
    client.insert_batch("q", {"a": np.arange(2)}, timeout_s=0)
    with pytest.raises(DeadlineExceeded, match="0 of 1 items"):
        client.insert({"a": np.array(5)}, {"q": 1.0}, timeout_s=0.05)
    assert client.sample_batch("q", 10, timeout_s=0).data["a"].tolist() == [0, 1]
    with pytest.raises(DeadlineExceeded, match="2 of 3 items"):
        client.insert_batch("q", {"a": np.arange(3)}, timeout_s=0)
    assert client.server_info()["q"].waiting_inserts == 0


def test_a_waiting_call_goes_on_when_it_may(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 1)))
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.extend(client.sample_batch("q", 3).data["a"].tolist()))
    reader.start()
    for number in range(3):
        client.insert({"a": np.array(number)}, {"q": 1.0}, timeout_s=30)
    reader.join()
    assert got == [0, 1, 2]


def test_who_waits_hears_at_once_what_another_client_did(serve: Serve, connect: Connect) -> None:
    server = serve(Table.queue("to", 1), Table.queue("fro", 1))
    reader, writer = connect(server), connect(server)

    def answer() -> None:
        for _ in range(20):
            number = reader.sample_batch("to", 1).data["a"]
            reader.insert_batch("fro", {"a": number})

    thread = threading.Thread(target=answer)
    thread.start()
    for number in range(20):
        writer.insert({"a": np.array(number)}, {"to": 1.0})
        assert writer.sample_batch("fro", 1).data["a"].tolist() == [number]
    thread.join()


def test_another_limiter_frees_who_waits(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table("t", Uniform(), Fifo(), 10, MinSize(5))))
    client.insert({"a": np.array(1)}, {"t": 1.0})
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.append(len(client.sample_batch("t", 2))))
    reader.start()
    until(lambda: client.server_info()["t"].waiting_samples == 1, 10)
    assert "at least 5" in client.server_info()["t"].blocked_on
    client.set_rate_limiter("t", MinSize(1))
    reader.join()
    assert got == [2]


def test_many_blocked_inserts_hold_nobody_up(serve: Serve, connect: Connect) -> None:
    # given more blocked calls than the server has threads
    client = connect(serve(Table.queue("q", 1)))
    threads = [
        threading.Thread(target=lambda: client.insert({"a": np.array(1)}, {"q": 1.0}, timeout_s=30)) for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    until(lambda: client.server_info()["q"].waiting_inserts == 39, 10)
    # when somebody samples, then everything flows
    assert len(client.sample_batch("q", 40)) == 40
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda client: client.insert(STEP, {"nope": 1.0}), TableNotFound, "'nope'"),
        (lambda client: client.sample_batch("nope", 1), TableNotFound, "there are 's'"),
        (lambda client: client.insert({"a": np.zeros(2)}, {}), ValueError, "at least one table"),
        (lambda client: client.insert({"a": np.zeros(2)}, 1.0), TypeError, "given by table, .*; got 1.0"),
        (lambda client: client.insert({"a": np.zeros(3, np.float32)}, {"s": -1.0}), ValueError, "no priority"),
        (lambda client: client.insert({"a": np.zeros(3, np.float32)}, {"s": float("nan")}), ValueError, "no priority"),
        (lambda client: client.insert({"a": np.zeros(2, np.float32)}, {"s": 1.0}), SignatureError, "shape"),
        (lambda client: client.insert({"a": np.zeros(3)}, {"s": 1.0}), SignatureError, "dtype"),
        (lambda client: client.insert({"b": np.zeros(3)}, {"s": 1.0}), SignatureError, "'b'"),
        (lambda client: client.insert({"a": object()}, {"s": 1.0}), TypeError, "fixed dtype"),
        (lambda client: client.insert({}, {"s": 1.0}), ValueError, "at least one array"),
        (lambda client: client.insert_batch("s", {"a": np.zeros(3), "b": np.zeros(2)}), ValueError, "one entry"),
        (lambda client: client.sample_batch("s", 0), ValueError, "at least 1"),
        (lambda client: client.mutate_priorities("s", {1: -1.0}), ValueError, "negative"),
        (lambda client: client.mutate_priorities("s", np.arange(3), np.ones(3)), TypeError, "a pair of arrays"),
        (lambda client: client.mutate_priorities("s", deletes=np.ones(3)), TypeError, "keys are integers"),
        (lambda client: client.mutate_priorities("s", ([1, 2], [1.0])), ValueError, "one length"),
        (lambda client: client.trajectory_writer(0), ValueError, "at least 1"),
        (lambda client: client.sampler("s", 0), ValueError, "batch_size"),
    ],
    ids=range(19),
)
def test_mistakes_fail_here_and_harm_nobody(
    serve: Serve, connect: Connect, act: Any, error: type[Exception], message: str
) -> None:
    signature = {"a": TensorSpec((3,), np.float32)}
    client = connect(serve(Table("s", Prioritized(1.0), Fifo(), 10, MinSize(1), signature=signature)))
    with pytest.raises(error, match=message):
        act(client)
    client.insert({"a": np.ones(3, np.float32)}, {"s": 1.0}, timeout_s=10)
    assert client.sample_batch("s", 2, timeout_s=10).data["a"].tolist() == [[1, 1, 1]] * 2
    assert client.server_info()["s"].current_size == 1


def test_items_of_different_lengths_come_as_lists(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 10)))
    with client.trajectory_writer(3) as writer:
        for step in range(3):
            writer.append({"a": np.array(step), "b": np.array([step, step])})
            writer.create_item("q", 1.0, {"x": writer.history["a"][:], "y": writer.history["b"][-1]})
    batch = client.sample_batch("q", 3)
    assert [array.tolist() for array in batch.data["x"]] == [[0], [0, 1], [0, 1, 2]]
    assert batch.data["y"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert [sample.data["x"].tolist() for sample in batch] == [[0], [0, 1], [0, 1, 2]]


def test_items_of_different_structures_come_one_by_one(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 10)))
    client.insert({"a": np.array(1)}, {"q": 1.0})
    client.insert([np.array(2), np.array(3)], {"q": 1.0})
    batch = client.sample_batch("q", 2)
    with pytest.raises(ValueError, match="iterate"):
        _ = batch.data
    assert [sample.data for sample in batch] == [{"a": 1}, [2, 3]]


def test_a_client_can_be_pickled(serve: Serve, connect: Connect) -> None:
    client = connect(serve(uniform()))
    client.insert({"a": np.array(1)}, {"t": 1.0})
    with pickle.loads(pickle.dumps(client)) as other:
        assert other.sample_batch("t", 1).data["a"].tolist() == [1]
        assert other.lane == client.lane


def test_a_dead_port_is_named() -> None:
    with Client("127.0.0.1:9", connect_timeout_s=0.3) as client, pytest.raises(KourouError, match=r"127\.0\.0\.1:9"):
        client.sample_batch("t", 1)


def test_servers_without_meaning_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one table"):
        Server([])
    for wrong in (uniform(), ["t"], None):
        with pytest.raises(TypeError, match=r"takes a list of replay.Table, got "):
            Server(cast("Any", wrong))
    with pytest.raises(ValueError, match="same name"):
        Server([uniform(), uniform()])


# -- samplers -------------------------------------------------------------------------------------------------------


def test_a_sampler_draws_exactly_as_many_as_it_may(serve: Serve, connect: Connect) -> None:
    server = serve(uniform())
    client = connect(server)
    client.insert_batch("t", {"a": np.arange(10)})
    with client.sampler("t", 4, max_in_flight=12, max_samples=30) as batches:
        sizes = []
        for taken, batch in enumerate(batches, 1):
            sizes.append(len(batch))
            until(lambda: client.server_info()["t"].samples == min(30, sum(sizes) + 12), 10)
            assert taken <= 8
    assert sizes == [4] * 7 + [2]
    assert client.server_info()["t"].samples == 30


def test_a_sampler_without_prefetch_draws_when_asked(serve: Serve, connect: Connect) -> None:
    server = serve(uniform())
    client = connect(server)
    client.insert_batch("t", {"a": np.arange(10)})
    with client.sampler("t", 4, max_in_flight=0) as batches:
        assert server.tables[0].info.samples == 0
        next(batches)
        next(batches)
        assert server.tables[0].info.samples == 8


def test_a_sampler_ends_when_the_time_is_over(serve: Serve, connect: Connect) -> None:
    client = connect(serve(Table.queue("q", 10)))
    client.insert_batch("q", {"a": np.arange(7)})
    with client.sampler("q", 4, timeout_s=0.05) as batches:
        assert [batch.data["a"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6]]


def test_closing_a_sampler_ends_a_wait(serve: Serve, connect: Connect) -> None:
    server = serve(Table.queue("q", 10))
    client = connect(server)
    batches = client.sampler("q", 4)
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(not list(batches)))
    thread.start()
    until(lambda: client.server_info()["q"].waiting_samples == 2, 10)
    batches.close()
    thread.join()
    assert ended == [True]
    # and the calls that it made wait no more, nor do they eat what others insert
    until(lambda: server.tables[0].info.waiting_samples == 0, 10)
    client.insert({"a": np.array(3)}, {"q": 1.0})
    assert client.sample_batch("q", 1, timeout_s=10).data["a"].tolist() == [3]


def test_the_draws_of_a_client_are_uniform(serve: Serve, connect: Connect) -> None:
    client = connect(serve(uniform()))
    client.insert_batch("t", {"a": np.arange(500)})
    counts = np.zeros(500)
    with client.sampler("t", 256, max_in_flight=1024, max_samples=256 * 400) as batches:
        for batch in batches:
            assert batch.probabilities.tolist() == [1 / 500] * len(batch)
            counts += np.bincount(batch.data["a"], minlength=500)
    expected = 256 * 400 / 500
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert abs(statistic - 499) < 5 * np.sqrt(2 * 499)


def test_limiters_can_be_given_to_several_tables() -> None:
    limiter = Queue(1)
    first, second = (Table(name, Fifo(), Fifo(), 1, limiter) for name in "ab")
    assert first.can_insert()
    assert second.can_insert()


def test_samplers_that_are_left_in_the_midst_hold_nothing(serve: Serve, connect: Connect) -> None:
    # given a client that begins to sample, and stops with batches on their way, again and again
    server = serve(uniform())
    client = connect(server)
    client.insert_batch("t", {"a": np.arange(10)})
    for _ in range(10):
        with client.sampler("t", 4) as batches:
            next(batches)

    def held() -> int:
        client.sample_batch("t", 1)  # with which is given back what came before
        (session,) = server._service._sessions._sessions.values()
        return len(session.pins)

    # then all is given back, but for what was read last
    until(lambda: held() <= 1, 20)


def test_what_was_waited_for_with_a_long_time_out_is_let_go_when_it_came(serve: Serve, connect: Connect) -> None:
    # given calls that wait, and might for an hour
    client = connect(serve(Table.queue("q", 1)))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        sampled = pool.submit(client.sample_batch, "q", 2, timeout_s=3600)
        inserted = pool.submit(client.insert_batch, "q", {"a": np.arange(3)}, timeout_s=3600)
        sampled.result(20)
        until(lambda: client.server_info()["q"].current_size == 1, 20)
        client.sample_batch("q", 1, timeout_s=20)
        inserted.result(20)
    del sampled, inserted
    # when they are answered, then the server keeps nothing of them until their time is over
    kinds = InsertRequest, SampleRequest

    def are_gone() -> bool:
        gc.collect()  # what earlier tests left in cycles, too
        return not [one for one in gc.get_objects() if type(one) in kinds]

    until(are_gone, 20)


@pytest.mark.parametrize("connect", ["inproc", "local"], indirect=True)
def test_a_batch_whose_answer_nobody_has_heard_is_held_no_longer(serve: Serve, connect: Connect) -> None:
    # given a client in which Ctrl-C comes when its batch has been drawn
    server = serve(uniform())
    client = connect(server)
    client.insert_batch("t", {"a": np.arange(10)})

    class CtrlC:
        def sample(self, *arguments: Any) -> None:
            client._session().calls.sample(*arguments)
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            client._session().sample(CtrlC(), "t", 4, None)
    # when it asks for the next
    client.sample_batch("t", 1)
    # then the server holds but that
    (session,) = server._service._sessions._sessions.values()
    assert len(session.pins) == 1


def test_blocks_of_a_batch_that_was_refused_are_used_again(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a client of a server that has no room for a call
    server = serve(uniform())
    client = connect(server)
    client.insert_batch("t", {"b": np.arange(10)})
    data = {"a": np.arange(2000)}

    class Overloaded:
        def insert(self, *_: Any) -> None:
            raise ServerOverloaded("no room")

    def overload(*_: Any, **__: Any) -> Overloaded:
        return Overloaded()

    def refused() -> int:
        with monkeypatch.context() as patch:
            patch.setattr("kourou.replay.client.batch_inserter.courier", types.SimpleNamespace(with_options=overload))
            with pytest.raises(ServerOverloaded):
                client.insert_batch("t", data)
        return blocks_used(server)

    # when, then: what is tried again takes no more of it
    taken = refused()
    assert refused() == taken
    client.insert_batch("t", data)
    assert blocks_used(server) <= taken
