"""Weights: published once by a learner, read by all who act on them, never silently old.

- A weights server has a *board* for each name: a page of shared memory that says what is the latest, and ``keep`` + 1
  *slots*, files in memory without a name. The server owns them, so they outlive the publisher and end with the server.
- A publisher copies a version into a slot that nobody reads, and then writes one word on the board. Readers look at
  that word, and map the slot. Neither calls anybody: the server is asked once, where the board is.
- Who reads a slot has a shared lock of its file for as long as it is mapped, who writes one has it alone. The system
  takes the locks back from processes that have ended, however they ended; so nothing is ever torn, and nothing leaks.
- On other hosts, or where memory cannot be shared, the same calls go over the wire, to the server's own board.

Read ``board``, then ``writing`` and ``reading`` for what happens to it, ``server`` and ``remote`` for the way between
hosts, ``publisher``, ``subscriber`` and ``view`` for what users hold.
"""

from __future__ import annotations

from kourou.weights.client import Client
from kourou.weights.publisher import Publisher
from kourou.weights.relays import Relaying
from kourou.weights.server import Server
from kourou.weights.subscriber import Subscriber
from kourou.weights.transport import Transport
from kourou.weights.view import View

__all__ = ["Client", "Publisher", "Relaying", "Server", "Subscriber", "Transport", "View"]
