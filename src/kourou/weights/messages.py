"""What travels between a weights server and those that cannot map its memory."""

from __future__ import annotations

import dataclasses

__all__ = ["News", "Sent"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class News:
    """How things are on a board.

    Attributes:
        board: tells it from the one of a server that has taken this one's place.
        latest: the number of the latest publication.
        offered: publications so far, those included that were skipped.
        offered_version: the version of the last of those.
        closed: whether waiting makes no sense any more.
        publisher: who published last, in words.
    """

    board: int
    latest: int
    offered: int
    offered_version: int
    closed: bool
    publisher: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sent:
    """A version on its way.

    Attributes:
        body: the pickle.
        buffers: the arrays' memory.
        news, number, version, age_ns: of the board that it came from, and what it says of it.
    """

    body: bytes
    buffers: tuple[memoryview, ...]
    news: News | None = None
    number: int = 0
    version: int = 0
    age_ns: int = 0
