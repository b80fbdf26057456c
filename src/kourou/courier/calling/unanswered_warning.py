"""The warning about a call without a time-out that is not answered: when it comes, how often, and in which words."""

from __future__ import annotations

import logging

from kourou.waits import PATIENCE_S

_log = logging.getLogger("kourou.courier")

UNANSWERED_S = PATIENCE_S
"""After so many seconds of waiting it is given."""


class UnansweredWarning:
    """Of one connection.

    Args:
        server: whom it calls.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._given: set[str] = set()  # of which methods

    def give(self, method: str) -> None:
        """Log it, once for each method."""
        if method not in self._given:
            self._given.add(method)
            _log.warning(
                "%s of %s has not answered for %.0f s, and is waited for without a time-out; timeout_s, or "
                "courier.with_options(client, timeout_s=…), sets one; kourou doctor tells why",
                method,
                self._server,
                UNANSWERED_S,
            )
