"""Of several workers that failed, the one that the others followed is to blame, in whatever order that became known."""

from __future__ import annotations

from typing import Any

from kourou.courier.wire.failures import Failure
from kourou.nodes.ranks import Place
from kourou.runtime.model.records import ProcessExit
from kourou.spmd.launch.root_cause import WorkerExit, exception_of, root_cause
from kourou.spmd.worker.main import Raised, Returned
from optional import pytest


def end(
    rank: int,
    answer: Any = None,
    *,
    host: str = "a",
    code: int | None = 1,
    signal: int | None = None,
    seen_s: float = 0,
) -> WorkerExit:
    place = Place(
        rank=rank,
        local_rank=rank,
        group_rank=0,
        hostname=host,
        world_size=4,
        local_world_size=4,
        group_world_size=1,
    )
    exit_ = ProcessExit(code=None if signal else code, signal=signal)
    return WorkerExit(place=place, exit=exit_, outcome=answer, seen_s=seen_s, pid=1, log_file=None)


def raised(message: str, at_s: float) -> Raised:
    return Raised(
        Failure("ValueError", b"", b"", b"", message, "", raised_by_handler=True, node="", host="", method=""), at_s
    )


PEER = "Read error [10.0.0.1]:5: Connection reset by peer"


@pytest.mark.parametrize(
    ("ends", "rank"),
    [
        ([end(0, raised("x", 1.0)), end(1, raised("y", 2.0))], 0),
        ([end(0, raised("x", 2.0)), end(1, raised("y", 1.0))], 1),
        ([end(0, raised(PEER, 1.0)), end(1, signal=9, seen_s=0.1)], 1),
        ([end(0, raised(PEER, 1.0)), end(1, code=3, seen_s=0.1)], 1),
        ([end(0, raised(PEER, 1.0)), end(1, raised("own", 9.0), host="b")], 1),
        ([end(0, raised(PEER, 1.0)), end(1, raised(PEER, 0.5))], 1),
        ([end(0, raised("own", 1.0)), end(1, signal=6, seen_s=0.1)], 0),
        ([end(0, raised("own", 1.0)), end(1, signal=11, seen_s=5.0)], 0),
        ([end(1, signal=11), end(0, raised(PEER, 0.0))], 1),
        ([end(1, signal=6)], 1),
    ],
)
def test_the_cause_is_blamed(ends: list[WorkerExit], rank: int) -> None:
    assert root_cause(ends).place.rank == rank


def test_a_worker_that_returned_and_then_crashed_has_failed() -> None:
    crashed = end(0, Returned(1), code=3)
    assert not crashed.succeeded
    assert "exited with code 3 after its function had returned" in str(exception_of(crashed))
    assert end(0, Returned(1), code=0).succeeded
