"""What agents of the tests do: they answer."""

from __future__ import annotations

from typing import Any


class Echo:
    """Implements :class:`kourou.runtime.host_agent.pipe_agent.Service`."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire

    def handle(self, kind: str, *arguments: Any) -> None:
        self._wire.send("echo", kind, *arguments)

    def pause_output(self, paused: bool) -> None:
        del paused

    def close(self) -> None:
        pass


def serve(wire: Any) -> Echo:
    return Echo(wire)
