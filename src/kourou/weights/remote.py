"""A board that is on another host, or cannot be mapped: the server reads and writes it for us."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

from kourou import courier
from kourou.weights.messages import News, Sent
from kourou.weights.readers import Who
from kourou.weights.reading import Found
from kourou.weights.slot_layout import Contents


class RemoteReader:
    """Each reader takes its own copy over the network.

    Calls go to whichever server there is, so publications are counted on over the boards of those that have ended.

    Args:
        calls: a client of the server whose calls may run twice.
        name: of the weights.
        grace_s: what a call may take beyond the time that it waits.
    """

    def __init__(self, calls: courier.Client, name: str, grace_s: float) -> None:
        self._client = calls
        self._calls: Any = calls
        self._name = name
        self._grace_s = grace_s
        self.earlier = 0
        self._news: News = self._calls.news(name)
        self._before = {self._news.board: 0}  # publications on the boards before each
        self._lock = threading.Lock()

    @property
    def page(self) -> News:
        """What was told last."""
        news = self._news
        return dataclasses.replace(news, offered=self._before[news.board] + news.offered)

    def latest(self) -> int:
        """Ask for the number of the latest publication."""
        return self._learn(self._calls.news(self._name))

    def newest(self) -> Found | None:
        """Fetch the latest version."""
        return self._fetch(None)

    def exact(self, version: int) -> Found | None:
        """Fetch this very version."""
        return self._fetch(version)

    def wait(self, number: int, timeout_s: float) -> None:
        """Ask to be told when there is a later publication."""
        patient: Any = courier.with_options(self._client, timeout_s=timeout_s + self._grace_s)
        self._learn(patient.wait(self._name, number - self._before[self._news.board], timeout_s))

    def is_there(self) -> bool:
        """True: it is asked each time."""
        return True

    def took(self, found: Found, who: Who) -> None:
        """Nothing: the server sees what is fetched, and does not list it."""

    def _learn(self, news: News) -> int:
        with self._lock:  # answers may come late, and threads learn of the same new board
            last, before = self._news, self._before
            if news.board not in before:
                before[news.board] = before[last.board] + last.offered
                self._news = news
            elif news.board == last.board and news.offered >= last.offered:
                self._news = news
            return before[news.board] + news.latest

    def _fetch(self, version: int | None) -> Found | None:
        sent: Sent | None = self._calls.fetch(self._name, version)
        if sent is None:
            return None
        self._learn(sent.news)
        published_ns = time.monotonic_ns() - sent.age_ns
        return Found(self._before[sent.news.board] + sent.number, sent.version, published_ns, sent.contents)


class RemoteWriter:
    """Sends versions to the server, which writes them to its board.

    Args:
        calls: a client of the server whose calls run once.
        name: of the weights.
    """

    def __init__(self, calls: courier.Client, name: str) -> None:
        self._calls: Any = calls
        self._name = name

    def write(
        self, contents: Contents, version: int | None, publisher: str, wait_s: float, *, above: int | None = None
    ) -> int | None:
        """Publish a version; as :meth:`BoardWriter.write`."""
        written: int | None = self._calls.store(self._name, contents, version, publisher, wait_s, above)
        return written
