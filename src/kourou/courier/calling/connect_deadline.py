"""How long connecting may take, and when it is time to say what is waited for: a connection, or an answer."""

from __future__ import annotations

import logging
import time

from kourou.waits import PATIENCE_S

_log = logging.getLogger("kourou.courier")


class ConnectDeadline:
    """How long one attempt to connect may take, and when to complain about it."""

    def __init__(self, name: str, deadline: float | None) -> None:
        self._name = name
        self.deadline = deadline
        self.since = time.monotonic()
        self._warn_at: float | None = self.since + PATIENCE_S

    def left_s(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def until_warning_s(self) -> float | None:
        """Seconds until the warning is due; None when it was given, or the deadline comes first."""
        if self._warn_at is None or (self.deadline is not None and self.deadline <= self._warn_at):
            return None
        return max(0.0, self._warn_at - time.monotonic())

    def warn_when_due(self, why: str = "") -> None:
        """Log the warning once."""
        if self._warn_at is not None and time.monotonic() >= self._warn_at:
            self._warn_at = None
            _log.warning(
                "still waiting for %s after %.0f s%s; set timeout_s, or wait_for_ready=False, not to wait for ever",
                self._name,
                PATIENCE_S,
                why,
            )


def warn_unanswered(server: str, method: str) -> None:
    """Log that a call without a time-out has been waiting for its answer for some time."""
    _log.warning(
        "%s of %s has not answered for %.0f s, and is waited for without a time-out; timeout_s, or "
        "courier.with_options(client, timeout_s=…), sets one; kourou doctor tells why",
        method,
        server,
        PATIENCE_S,
    )
