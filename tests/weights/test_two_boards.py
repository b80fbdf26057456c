"""A server takes another's place while threads look: each publication is counted once, on the board that it is on."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from kourou.weights import Client, Server
from kourou.weights.messages import News
from kourou.weights.remote import RemoteReader

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_what_was_read_on_the_old_board_is_not_taken_for_what_is_on_the_new() -> None:
    # given a reader that has read one version of a server, and another server, which has the next
    with Server() as old, Server() as new, Client(old.address) as of_old, Client(new.address) as of_new:
        of_old.publisher().publish(np.arange(3), version=1)
        of_new.publisher().publish(np.arange(3), version=2)
        subscriber = of_old.subscriber()
        reader = subscriber._attached()
        other = of_new.subscriber()._attached()

        class Moved:
            def ask(self) -> Future[Any]:
                answer: Future[Any] = Future()
                answer.set_result(None)
                return answer

            def reader(self, _: Future[Any]) -> Any:
                return other

            def __getattr__(self, name: str) -> Any:
                return getattr(way, name)

        way, latest = subscriber._way, reader.latest

        def look() -> int:
            found = latest()
            if subscriber._reader is reader:  # another thread finds the new server meanwhile
                subscriber._way = Moved()  # type: ignore[assignment]
                subscriber._attach_again(reader)
            return found

        reader.latest = look  # type: ignore[method-assign]
        view = subscriber.latest()
        assert view is not None
        assert view.version == 1
        # when it looks for a newer one
        newer = subscriber.latest(newer_than=1)
        # then it finds it, and nothing was skipped
        assert newer is not None
        assert (newer.version, newer.skipped, newer.lag) == (2, 0, 0)


def test_a_new_board_is_counted_once_by_all_threads_that_learn_of_it() -> None:
    # given a reader of a board of 5 publications, on another host
    class Calls:
        def news(self, _: str) -> News:
            return news(board=1, count=5)

    calls: Any = Calls()
    reader = RemoteReader(calls, "weights", 1.0)
    # when two threads learn of its successor, and the answer to a third one, of the old one, comes late
    assert reader._learn(news(board=2, count=1)) == 6
    assert reader._learn(news(board=1, count=4)) == 4
    assert reader._learn(news(board=2, count=1)) == 6
    assert reader._learn(news(board=2, count=2)) == 7
    # then
    assert reader.page.offered == 7


def news(*, board: int, count: int) -> News:
    return News(board=board, latest=count, offered=count, offered_version=count, closed=False, publisher="")
