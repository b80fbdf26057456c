"""What other projects write behind a method, as ``actor.step.remote(1)``: who does so is told what it is here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

_HERE = {
    # Ray's
    "remote": "client.futures.step(...) gives a future at once, and client.step(...) waits",
    "options": "lp.courier.with_options(client, timeout_s=..., idempotent=...) is a client with other options",
    # Monarch's
    "call": "lp.broadcast(handles).step(...) calls many nodes, and client.step(...) one",
    "call_one": "client.step(...) calls and waits",
    "choose": "random.choice(clients).step(...) calls one of many",
    "broadcast": "lp.broadcast(handles).futures.step(...) calls many nodes, and does not wait",
    "stream": "lp.broadcast(handles).stream.step(...) gives the results of many nodes as they come",
}


def _telling(word: str, here: str) -> Callable[..., NoReturn]:
    def tell(*_: Any, **__: Any) -> NoReturn:
        raise AttributeError(f"a client's method has no .{word}(...): {here}")

    return tell


TELLING = {word: _telling(word, here) for word, here in _HERE.items()}
"""Attributes of a method by their names; they raise AttributeError once they are called."""
