"""What travels between a weights server and those that cannot map its memory."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from kourou.weights.slot_layout import Contents


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
    """A version on its way to who reads it.

    Attributes:
        contents: its bytes.
        news, number, version, age_ns: of the board that it came from, and what it says of it.
    """

    contents: Contents
    news: News
    number: int
    version: int
    age_ns: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A relay's place in the chain of hosts.

    Attributes:
        upstream: the address of the relay before it; None if it is the first, which follows the server.
        keep: versions that can be read at any time.
    """

    upstream: str | None
    keep: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Have:
    """What a relay has already, so that it is not sent again.

    Attributes:
        board: where that was published; 0 before it knew of any.
        number: of the publication that it has; 0 for none.
        digests: of that one's blocks.
        partial: another publication, of which it has the first blocks.
        partial_digests: of those.
    """

    board: int = 0
    number: int = 0
    digests: tuple[bytes, ...] = ()
    partial: int = 0
    partial_digests: tuple[bytes, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """A version whose blocks follow.

    Attributes:
        board: where it was published; tells servers apart.
        number, version, age_ns: what that board says of it.
        buffers, total_bytes: what is in its slot.
    """

    board: int
    number: int
    version: int
    age_ns: int
    buffers: int
    total_bytes: int


class Block(NamedTuple):
    """A piece of a version.

    Attributes:
        board, number: of the version, as its head says.
        position: which.
        digest: of its bytes.
        data: these; None where the other end has them.
    """

    board: int
    number: int
    position: int
    digest: bytes
    data: memoryview | None
