"""Unary calls, and calls whose request and answer are streams, to any gRPC server. Each has a connection of its own.

So calls share nothing: a thread, a signal handler between two bytecodes of another call, or one that an exception
ends waits for no other, nobody reads for another, and a client without calls has neither a connection nor a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from kourou.courier.lanes.grpc.channel import Channel, status_error
from kourou.courier.lanes.http2.packets import MessageReader, message_of, plain_message
from kourou.errors import ProtocolError


def ask(channel: Channel, request: bytes, most_bytes: int) -> bytes:
    """Make a unary call: ``request`` is its message, and so is what is returned. The channel is closed.

    Raises:
        ServerUnavailable: the server does not answer, or not well.
        Unauthenticated: the token is wrong.
        ProtocolError: the answer is longer than ``most_bytes``, or none.
    """
    try:
        channel.ask(plain_message(request))
        answer = bytearray()
        while not channel.http2.end:
            for piece in channel.receive():
                answer += piece
            if len(answer) > most_bytes:
                raise ProtocolError(f"{channel.address} answers at too great length")
    finally:
        channel.socket.close()
    if channel.http2.end.status:
        raise status_error(channel.http2.end, channel.address)
    return message_of(answer)


class MessageStream:
    """The messages that answer a call, as they come. One thread iterates; any may say more, or cancel.

    Args:
        channel: the call.
        request: its first message.

    Raises:
        ServerUnavailable: the server is gone, as when iterating.
    """

    def __init__(self, channel: Channel, request: bytes) -> None:
        self._channel = channel
        self._owner = os.getpid()
        try:
            channel.say(plain_message(request))
        except BaseException:
            channel.socket.close()
            raise
        channel.clear_timeout()

    def say(self, message: bytes) -> None:
        """One more message of the request.

        Raises:
            ServerUnavailable: the server is gone, or takes no more.
        """
        self._channel.say(plain_message(message))

    def end(self) -> None:
        """Nothing more will be said. The answer may go on.

        Raises:
            ServerUnavailable: the server is gone.
        """
        self._channel.say(b"", last=True)

    def __iter__(self) -> Iterator[bytes]:
        reader = MessageReader()
        try:
            while not self._channel.http2.end:
                yield from reader.feed(self._channel.receive())
        finally:
            self._channel.socket.close()
        if self._channel.http2.end.status:
            raise status_error(self._channel.http2.end, self._channel.address)

    def cancel(self) -> None:
        """End the call; iterating ends. In a child of fork it does nothing: the connection is its parent's."""
        if os.getpid() == self._owner:
            self._channel.socket.shutdown()
