"""What a server tells of the calls that it has not answered, to whoever asks why a program does not go on."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallReport:
    """A call that is not answered."""

    method: str
    for_s: float | None
    """Since its handler began; None: it waits for a thread."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchReport:
    """Calls that wait until a batch is full."""

    method: str
    waiting: int
    size: int
    """Of a full batch."""
    for_s: float
    """That the first of them has waited."""
    due_s: float
    """Until it runs in any case, if the function is idle."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerReport:
    """A server, as it is now."""

    answered: int
    """Calls so far."""
    usual_s: dict[str, float]
    """Method → seconds that its handler took on average, of those that have ever returned."""
    threads: int
    """Handlers that may run at once."""
    queued: int
    """Calls that wait for one of them."""
    calls: tuple[CallReport, ...]
    batches: tuple[BatchReport, ...]
