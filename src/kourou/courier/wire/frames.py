"""The frames that every lane carries, and their form on a byte stream.

A frame on the wire::

    head      28 bytes   inline size, kind, flags, method size, buffer count, call id, number
    method               UTF-8
    table     20 bytes for each buffer: its size, and where it lies
    body                 the pickle stream
    …                    the buffers that do not lie in shared memory, one after the other

Bulk never goes through the body: NumPy arrays and tensors are buffers, and a body that is large itself is
sent as one more buffer. So the part that has to be in memory before a frame makes sense is small and bounded.

Nothing in this module waits, locks, or knows what a socket is.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from kourou.courier.wire.buffer_pool import allocate
from kourou.errors import ProtocolError

Buffer: TypeAlias = bytes | bytearray | memoryview
Body: TypeAlias = Buffer | tuple[Buffer, ...]  # a tuple: pieces of one body that nobody has joined
_Bulk: TypeAlias = tuple[int, tuple[Buffer, ...]]  # a buffer's size, and its pieces

INLINE_BODY_BYTES = 64 << 10  # a body above this size travels like a buffer
MOST_BUFFERS = 1 << 16
_MAX_INLINE = (1 << 16) + INLINE_BODY_BYTES + 20 * MOST_BUFFERS
_MAX_FRAME = 1 << 40  # bytes of all buffers of one frame; beyond any memory, so a sign of a broken peer

_HEAD = struct.Struct("<IBBHIQd")
_ENTRY = struct.Struct("<QIQ")
_ENTRY_SIZE = _ENTRY.size
_HEAD_SIZE = _HEAD.size
_pack_head = _HEAD.pack
_unpack_head = _HEAD.unpack_from
_BODY_IS_LAST_BUFFER = 1
_IN_STREAM = 0  # the segment number of a buffer that follows its frame


class Kind:
    """What a frame says. ``number`` and the body mean something else for each kind.

    Plain integers, because they are compared several times for each call and members of an enum are slow at that.
    """

    CALL: Final = 1  # client: run a method; number = seconds until the deadline, 0 for none
    CANCEL: Final = 2  # client: the answer is no longer wanted
    CREDIT: Final = 3  # client: ``number`` more items of a stream were taken
    RESULT: Final = 4  # server: what the method returned
    FAILURE: Final = 5  # server: what it raised
    STREAM: Final = 6  # server: it returned a generator; items follow as credit allows
    ITEM: Final = 7  # server: one item of a stream
    END: Final = 8  # server: the stream is finished
    RELEASE: Final = 9  # either: the block (segment ``call_id``, offset ``number``) of your arena is free again
    SEGMENT: Final = (
        10  # either: ``call_id`` names a segment of my arena of ``number`` bytes (0: it is gone); body: block size
    )


LAST = frozenset({Kind.RESULT, Kind.FAILURE, Kind.END})
"""One of them for each call, which nothing follows."""
_FIRST_CONTROL = Kind.RELEASE
_LAST_KIND = Kind.SEGMENT


class Frame(NamedTuple):
    """One message between a client and a server.

    A tuple, not a dataclass: one is made for every call and every answer, and a tuple is five times cheaper.
    """

    kind: int
    call_id: int
    number: float = 0.0
    method: str = ""
    body: Body = b""
    buffers: Sequence[Buffer] = ()


make_frame = functools.partial(tuple.__new__, Frame)
"""Makes a frame from a tuple of all its fields: three times faster than the class, for what every call does."""


Memory: TypeAlias = Callable[[Body, int], memoryview]
"""Gives writable memory for a buffer of so many bytes that is about to come, of a frame with this body."""


class Blocks(Protocol):
    """Shared memory that the other end reads."""

    def place(self, size: int, pieces: Sequence[Buffer], /) -> tuple[int, int] | None:
        """Put a buffer of a given size, given in pieces, there: its (segment, offset). None if it had better not be."""
        ...

    def release(self, segment: int, offset: int, /) -> None:
        """Nobody reads what was put there."""


def body_size(body: Body) -> int:
    """Bytes of a body, in one piece or in several."""
    return sum(map(len, body)) if type(body) is tuple else len(body)


def payload_size(body: Body, buffers: Sequence[Buffer]) -> int:
    """Bytes of a body and its buffers."""
    return body_size(body) + sum(map(len, buffers))


def pack(frame: Frame, blocks: Blocks | None = None) -> list[Buffer]:
    """The frame as buffers to be written one after the other; large ones are not copied.

    Args:
        frame: what to say.
        blocks: take bulk; without them everything goes through the stream.
    """
    kind, call_id, number, method, body, buffers = frame
    if not buffers and type(body) is bytes and len(body) <= INLINE_BODY_BYTES:
        if not method:
            return [_pack_head(len(body), kind, 0, 0, 0, call_id, number) + body]
        name = method.encode()
        return [_pack_head(len(name) + len(body), kind, 0, len(name), 0, call_id, number) + name + body]
    name = method.encode()
    flags = 0
    bulk: list[_Bulk] = [(len(buffer), (buffer,)) for buffer in buffers]
    if body_size(body) > INLINE_BODY_BYTES:
        flags = _BODY_IS_LAST_BUFFER
        bulk.append((body_size(body), body if isinstance(body, tuple) else (body,)))
        body = b""
    if len(bulk) > MOST_BUFFERS or len(name) >= 1 << 16:
        raise ProtocolError(f"a message of {len(bulk)} buffers; at most {MOST_BUFFERS} fit")
    inline: list[Buffer] = [b"", name]
    follow: list[Buffer] = []
    for (size, pieces), placed in zip(bulk, _placed(bulk, blocks), strict=True):
        inline.append(_ENTRY.pack(size, *(placed or (_IN_STREAM, 0))))
        if placed is None:
            follow.extend(pieces)
    inline.extend(body if isinstance(body, tuple) else (body,))
    size = len(name) + _ENTRY_SIZE * len(bulk) + body_size(body)
    inline[0] = _pack_head(size, kind, flags, len(name), len(bulk), call_id, number)
    return [b"".join(inline), *follow]


def _placed(bulk: Sequence[_Bulk], blocks: Blocks | None) -> list[tuple[int, int] | None]:
    """Where each buffer lies in shared memory; all or none of them, whatever interrupts it."""
    if blocks is None:
        return [None] * len(bulk)
    found: list[tuple[int, int] | None] = []
    try:
        found.extend(blocks.place(size, pieces) if size else None for size, pieces in bulk)
    except BaseException:
        for placed in filter(None, found):
            blocks.release(*placed)
        raise
    return found


class _Unfinished(NamedTuple):
    """A frame whose head is known and whose buffers are still arriving."""

    frame: Frame
    body_is_last: bool
    buffers: list[Buffer]

    def finished(self) -> Frame:
        if not self.body_is_last:
            return self.frame._replace(buffers=self.buffers)
        return self.frame._replace(body=self.buffers[-1], buffers=self.buffers[:-1])


def _no_control(frame: Frame) -> None:
    raise ProtocolError(f"a frame of kind {frame.kind} on a lane without shared memory")


def _fresh(_: Body, size: int) -> memoryview:
    return allocate(size)


class FrameParser:
    """Cuts a byte stream into frames.

    Args:
        resolve: gives the memory of a buffer that lies at (segment, offset, size) in the peer's arena;
            without it, such a buffer is an error.
        memory: for buffers that come through the stream.
        control: takes frames about shared memory, at once, since the next frame may rely on them.
    """

    def __init__(
        self,
        resolve: Callable[[int, int, int], memoryview] | None = None,
        memory: Memory = _fresh,
        control: Callable[[Frame], None] = _no_control,
    ) -> None:
        self._resolve = resolve
        self._control = control
        self._memory = memory
        self._rest = bytearray()  # the beginning of a frame whose inline part is not complete
        self._missing = 0  # bytes without which it need not be looked at again
        self._unfinished: _Unfinished | None = None
        self.filling: list[memoryview] = []  # bulk that is still to come, the next one last

    @property
    def sink(self) -> memoryview:
        """While ``filling``: where the next bytes of the stream belong. Read them into it, then call ``filled``."""
        return self.filling[-1]

    def filled(self, count: int) -> list[Frame]:
        """``count`` bytes were written at the start of ``sink``."""
        view = self.filling.pop()
        if count < len(view):
            self.filling.append(view[count:])
        return self._completed()

    def feed(self, data: bytes | memoryview) -> list[Frame]:  # noqa: C901 - in one piece, because it runs for every frame
        """The frames that ``data`` completes.

        Raises:
            ProtocolError: what arrived is not a frame, or passes a limit. The stream is of no use afterwards.
        """
        frames: list[Frame] = []
        if self.filling:
            data = self._fill(data, frames)
        elif type(data) is not bytes:
            data = bytes(data)
        if self._rest:
            data = self._joined(data)
        start, end, missing = 0, len(data), 0
        while end - start >= _HEAD_SIZE:
            inline, kind, flags, name_size, count, call_id, number = _unpack_head(data, start)
            if not 0 < kind <= _LAST_KIND or inline > _MAX_INLINE or count > MOST_BUFFERS:
                raise ProtocolError(f"not a frame: kind {kind}, {inline} bytes, {count} buffers")
            name_start = start + _HEAD_SIZE
            stop = name_start + inline
            if stop > end:
                missing = stop - end
                break
            body_start = name_start + name_size + (_ENTRY_SIZE * count if count else 0)
            if body_start > stop or flags > _BODY_IS_LAST_BUFFER or (flags and not count):
                raise ProtocolError("a frame whose parts do not fit in it")
            name = _name(data[name_start : name_start + name_size]) if name_size else ""
            frame = make_frame((kind, call_id, number, name, data[body_start:stop], ()))
            start = stop
            if kind >= _FIRST_CONTROL:
                self._control(frame)
                continue
            if not count:
                frames.append(frame)
                continue
            table = data[body_start - _ENTRY_SIZE * count : body_start]
            self._begin(frame, table, body_is_last=bool(flags))
            if self.filling:
                data, start = self._fill(memoryview(data)[start:], frames), 0
                end = len(data)
            else:
                frames.extend(self._completed())
        if start < end:
            self._rest = bytearray(data[start:])
            self._missing = missing or _HEAD_SIZE - (end - start)
        return frames

    def _joined(self, data: bytes) -> bytes:
        """What came before and this; nothing as long as that need not be looked at."""
        self._rest += data
        self._missing -= len(data)
        if self._missing > 0:
            return b""
        joined, self._rest = bytes(self._rest), bytearray()
        return joined

    def _begin(self, frame: Frame, table: bytes, *, body_is_last: bool) -> None:
        buffers: list[Buffer] = []
        empty: list[memoryview] = []
        total = 0
        for size, segment, offset in _ENTRY.iter_unpack(table):
            total += size
            if total > _MAX_FRAME:
                raise ProtocolError(f"a frame of more than {_MAX_FRAME} bytes")
            if segment == _IN_STREAM:
                view = self._memory(frame.body, size)
                if size:
                    empty.append(view)
            elif self._resolve is None:
                raise ProtocolError("a buffer in shared memory on a lane that has none")
            else:
                view = self._resolve(segment, offset, size)
            buffers.append(view)
        self._unfinished = _Unfinished(frame, body_is_last, buffers)
        self.filling = empty[::-1]

    def _fill(self, data: bytes | memoryview, frames: list[Frame]) -> bytes:
        """Copy bulk out of ``data`` into its places; what is left belongs to the next frame."""
        source = memoryview(data)
        while self.filling and source:
            sink = self.filling[-1]
            count = min(len(sink), len(source))
            sink[:count] = source[:count]
            source = source[count:]
            frames.extend(self.filled(count))
        return bytes(source)

    def _completed(self) -> list[Frame]:
        if self.filling or self._unfinished is None:
            return []
        frame = self._unfinished.finished()
        self._unfinished = None
        return [frame]


def _name(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("a method name that is not UTF-8") from error
