"""Courier's errors: what calls raise is one of kourou's, whether the network or the handler is at fault."""

from __future__ import annotations

from kourou.errors import KourouError as StatusNotOk

__all__ = ["StatusNotOk"]

BELOW = {"status": "StatusNotOk"}
