"""Weights: published once by a learner, read by all who act on them, never silently old.

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
