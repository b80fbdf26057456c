"""kourou on an event loop: a client whose calls are awaited, and a wait for the program's stop.

All of it works in any number of event loops, each in its thread, and beside threads that call the same nodes.
"""

from __future__ import annotations

from kourou.aio.client import Client, call, stream
from kourou.aio.stopping import wait_for_stop

__all__ = ["Client", "call", "stream", "wait_for_stop"]
