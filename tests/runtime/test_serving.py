"""A node's server and the interrupts that come while it opens and closes: at every step, not where luck has it."""

from __future__ import annotations

import itertools
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from kourou.courier import Server
from kourou.courier.lanes import inproc
from kourou.errors import StopRequested
from kourou.runtime import life, serving
from kourou.runtime.context import NodeContext

if TYPE_CHECKING:
    from typing_extensions import Self

WATCHED = {life.__file__, serving.__file__}


class Interrupter:
    """Interrupts the calling thread at one or two steps of the watched files, unless it is shielded there.

    A step is where the interpreter looks for interrupts: where a function begins or goes on, and after a call. An
    error in a profile function switches it off, and one in a trace function that, so there are two of them.
    """

    def __init__(self, *at: int) -> None:
        self._first, self._second = (*at, None, None)[:2]
        self._step = itertools.count()
        self.raised = 0

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
        if frame.f_code.co_filename not in WATCHED or threading.get_ident() in life._shields:
            return False
        due = next(self._step) == at
        self.raised += due
        return due


def serve_once(*at: int, tmp_path: Path) -> int:
    """Open and close a server, interrupted at the given steps: how many of these there were."""
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
    assert not life._shields
    assert not list(tmp_path.iterdir())
    return interrupter.raised


@pytest.mark.usefixtures("no_leaks")
def test_a_server_is_closed_wherever_one_interrupt_or_two_come(tmp_path):
    steps = next(step for step in itertools.count() if not serve_once(step, tmp_path=tmp_path))
    assert steps > 10
    for first in range(steps):
        for second in range(first + 1, first + 12):
            serve_once(first, second, tmp_path=tmp_path)
