"""Which threads are at work in a client's connection: what interrupts one of them must not wait for it."""

from __future__ import annotations

import threading


class Entered:
    """Notes for the time of a ``with`` that this thread is at work in a client's connection."""

    __slots__ = ("_enters", "_inside", "_me")

    def __init__(self, inside: set[int]) -> None:
        self._inside = inside
        self._me = threading.get_ident()
        self._enters = self._me not in inside

    def __enter__(self) -> None:
        self._inside.add(self._me)

    def __exit__(self, *_: object) -> None:
        if self._enters:
            self._inside.discard(self._me)
