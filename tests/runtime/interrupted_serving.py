"""A node's server and the interrupts that come while it opens and closes: at every step, not where luck has it.

A script, since it runs under a tracer, which had better not meet what else pytest's process has going on.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kourou.courier import Server
from kourou.courier.lanes import inproc
from kourou.errors import StopRequested
from kourou.runtime.context.context import NodeContext
from kourou.runtime.interpreter import thread_interrupts
from kourou.runtime.node_process import serving

if TYPE_CHECKING:
    from typing_extensions import Self

WATCHED = {thread_interrupts.__file__, serving.__file__}


class Interrupter:
    """Interrupts the calling thread at one or two steps of the watched files, unless it is shielded there.

    A step is where the interpreter looks for interrupts: where a function begins or goes on, and after a call. An
    error in a profile function switches it off, and one in a trace function that, so there are two of them.
    """

    def __init__(self, *at: int) -> None:
        self._first, self._second = (*at, None, None)[:2]
        self._step = itertools.count()
        self.places: list[str] = []  # where it interrupted

    @property
    def raised(self) -> int:
        return len(self.places)

    def __enter__(self) -> Self:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        sys.settrace(None)

    def _profile(self, frame: Any, event: str, arg: Any) -> None:
        del arg
        if event in {"call", "c_return", "c_exception"} and self._is_due(frame, self._first):
            sys.settrace(self._trace)
            raise StopRequested

    def _trace(self, frame: Any, event: str, arg: Any) -> None:
        del arg
        if event == "call" and self._is_due(frame, self._second):
            raise StopRequested

    def _is_due(self, frame: Any, at: int | None) -> bool:
        if frame.f_code.co_filename not in WATCHED or threading.get_ident() in thread_interrupts._shields:
            return False
        if next(self._step) != at:
            return False
        self.places.append(f"{frame.f_code.co_qualname if sys.version_info >= (3, 11) else ''}:{frame.f_lineno}")
        return True


def serve_once(*at: int, tmp_path: Path) -> list[str]:
    """Open and close a server, interrupted at the given steps: where that was."""
    server = Server("node", token="t", socket_dir=str(tmp_path))
    address = None
    interrupter = Interrupter(*at)
    try:
        with interrupter, serving.serve(cast("NodeContext", None), server):
            address = server.address
    except StopRequested:
        assert interrupter.raised
    else:
        assert not interrupter.raised
    if server.has_started:
        assert inproc.endpoint_at(address or server.address) is None
        server.join()  # at once, for it has stopped
    assert not thread_interrupts._shields
    assert not list(tmp_path.iterdir())
    return interrupter.places


def main() -> None:
    """Interrupt a server's life at every step, and at a second one soon after."""
    with tempfile.TemporaryDirectory() as folder:
        tmp_path = Path(folder)
        places = list(itertools.takewhile(bool, (serve_once(step, tmp_path=tmp_path) for step in range(100))))
        assert 10 < len(places) < 100, places
        for first in range(len(places)):
            for second in range(first + 1, first + 12):
                serve_once(first, second, tmp_path=tmp_path)
    print("interrupted at", len(places), "steps")


if __name__ == "__main__":
    main()
