"""A worker's life: take the function, join the others, call it, leave its outcome, end.

The zygote that a worker is forked from has torch imported and nothing of it in use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from kourou import errors, threads
from kourou.courier.wire import codec, failures
from kourou.nodes.process_group import Backend, grouped, reach_store, serve_store, torch_is_there
from kourou.nodes.ranks import Place, Rendezvous
from kourou.runtime.interpreter import startup
from kourou.runtime.interpreter.user_code import run_user_code
from kourou.runtime.node_process.outcomes import outcome_of_exit
from kourou.spmd.worker import parcel
from kourou.spmd.worker.lines import MarkHandler

_FAILED_GRACE_S = 1.0  # for the atexit handlers of a worker that failed: the others wait for it


@dataclasses.dataclass(frozen=True)
class Returned:
    """The outcome of a worker whose function returned."""

    value: Any

    def nested_children(self) -> list[tuple[str, Any]]:
        """To the user, who is told what in it cannot be pickled, this is the returned value itself."""
        return [("", self.value)]


class Raised(NamedTuple):
    """The outcome of a worker whose function raised."""

    failure: failures.Failure
    at_s: float
    """``time.monotonic()``, which the processes of a host share: what raised first was the cause."""


def run(boot: dict[str, Any]) -> int:
    """Be the worker that ``boot`` describes; its exit code."""
    call_fd, outcome_fd, *listeners = boot["fds"]
    place, rendezvous = Place(**boot["place"]), Rendezvous(**boot["rendezvous"])
    no_terminal = f"{place} has no terminal: call the function outside of the launcher to debug it"
    startup.prepare(boot["argv"], boot["path"], no_terminal=no_terminal)
    root = logging.getLogger()
    root.addHandler(MarkHandler())
    root.setLevel(boot["log_level"])
    name = "the function"
    try:
        call: Any = parcel.read(call_fd)
        function, args, kwargs = call.open()
        os.close(call_fd)
        name = getattr(function, "__qualname__", name)
        with _process_group(place, rendezvous, boot["backend"], boot["timeout_s"], *listeners):
            returned = Returned(run_user_code(function, *args, **kwargs))
            parcel.write(outcome_fd, codec.encode(returned, f"{name} of {place}:"))
    except (SystemExit, errors.Interrupted) as error:
        _finish_within_grace()
        return outcome_of_exit(error).code
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised again where the run was started
        at_s = time.monotonic()
        startup.print_failure(error)
        failure = failures.describe(error, node=f"rank {place.rank}", method=name)._replace(host=place.hostname)
        parcel.write(outcome_fd, codec.encode(Raised(failure, at_s), name))
        _finish_within_grace()
        return 1
    with startup.leaving(str(place), 0):
        startup.finish()
    return 0


@contextlib.contextmanager
def _process_group(
    place: Place, rendezvous: Rendezvous, backend: Backend | None, timeout_s: float, *listeners: int
) -> Iterator[None]:
    """Be in the run's process group, if there is one; in rank 0, serve the store in any case."""
    store = serve_store(rendezvous, place.world_size, *listeners) if listeners and torch_is_there() else None
    if backend is None:
        yield
        del store
        return
    store = store or reach_store(rendezvous, place.world_size)
    with grouped(store, place, backend=backend, timeout_s=timeout_s):
        yield


def _finish_within_grace() -> None:
    """End this process in an orderly way, but do not let threads or atexit handlers hold the failure back."""
    timer = threading.Timer(_FAILED_GRACE_S, os._exit, (1,))
    timer.daemon = True
    with contextlib.suppress(errors.LaunchError):
        threads.start(timer)
    startup.finish()
