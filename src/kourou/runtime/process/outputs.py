"""What the processes of one supervisor print: read as it comes, unless whoever is told has to catch up."""

from __future__ import annotations

import selectors

from kourou.runtime.output.output_pipes import OutputPipes


class Outputs:
    """For the supervisor's thread, which calls what its selector has as an event's data."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._open: dict[OutputPipes, None] = {}
        self._paused = False

    def add(self, output: OutputPipes) -> None:
        """Read these pipes, too."""
        self._open[output] = None
        if not self._paused:
            self._watch(output)

    def pause(self, *, paused: bool) -> None:
        """Read no more, so that those who print much wait; or read on."""
        if paused is self._paused:
            return
        self._paused = paused
        for output in self._open:
            if paused:
                for fd in output.read_ends:
                    self._selector.unregister(fd)
            else:
                self._watch(output)

    def finish(self, output: OutputPipes) -> None:
        """All who wrote to it are dead: tell what it still holds, and close it."""
        for fd in output.read_ends:
            output.read_rest(fd)
            self._close(output, fd)
        self._open.pop(output, None)

    def drop(self, *, tell: bool) -> None:
        """Close all of them; ``tell`` says whether what no newline ended is told."""
        for output in self._open:
            for fd in output.read_ends:
                self._close(output, fd, tell=tell)
        self._open.clear()

    def _watch(self, output: OutputPipes) -> None:
        for fd in output.read_ends:
            self._selector.register(fd, selectors.EVENT_READ, lambda fd=fd: self._read(output, fd))

    def _read(self, output: OutputPipes, fd: int) -> None:
        if not output.read(fd):
            self._close(output, fd)

    def _close(self, output: OutputPipes, fd: int, *, tell: bool = True) -> None:
        if not self._paused:
            self._selector.unregister(fd)
        output.close(fd, tell=tell)
