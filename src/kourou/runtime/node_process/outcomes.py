"""Running a node's code and putting its end into words; the same for a thread and for a process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from kourou import errors
from kourou.cpython import imported
from kourou.runtime.context.context import NodeContext
from kourou.runtime.interpreter.startup import print_failure
from kourou.runtime.interpreter.user_code import run_user_code
from kourou.runtime.model.records import Outcome
from kourou.shown import described
from kourou.waits import Working, works_in

_HEARD_S = 1.0  # within which all nodes hear of a stop, unless a machine is overloaded


class ChildFailed(BaseException):
    """Raised by a node that runs others and whose end is in words already: those of the child that failed."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.exception)
        self.outcome = outcome


@works_in(lambda here: Working(who=here["context"].name))
def run_to_outcome(entry: Callable[[NodeContext], Any], context: NodeContext) -> Outcome:
    """Run ``entry(context)``; whatever it raises becomes an :class:`Outcome` and, if it is a failure, is printed."""
    try:
        run_user_code(entry, context)
    except errors.StopRequested:
        return Outcome(kind="stopped")
    except (SystemExit, errors.Interrupted) as error:
        return outcome_of_exit(error)
    except ChildFailed as failure:
        return failure.outcome
    except BaseException as error:  # noqa: BLE001 - whatever a node raises is reported
        if caused_by_stop(error, context):
            return Outcome(kind="stopped")
        return Outcome(kind="raised", code=1, exception=described(error), traceback=print_failure(error))
    return Outcome(kind="finished")


def caused_by_stop(error: BaseException | None, context: NodeContext) -> bool:
    """The program stops: this node's coroutine was cancelled, or whom it called was gone first or cancelled the call.

    In the last case this node may hear of the stop a moment later.
    """
    asyncio = imported("asyncio")  # without it nothing of its was raised, and it is slow to import
    cancelled = (asyncio.CancelledError,) if asyncio is not None else ()
    if not isinstance(error, (*cancelled, errors.ConnectionLost, errors.CallCancelled)):
        return False
    return context.stop.event.wait(_HEARD_S if isinstance(error, errors.CallCancelled) else 0)


def outcome_of_exit(error: SystemExit | errors.Interrupted) -> Outcome:
    """What an exit that nobody caught leads to; its message, if it has one, is printed."""
    if error.code is None or error.code == 0:
        return Outcome(kind="finished")
    if isinstance(error.code, int):
        return Outcome(kind="exited", code=error.code & 0xFF)
    with contextlib.suppress(Exception):  # a __str__ of the user's, or a stream
        print(error.code, file=sys.stderr)  # noqa: T201 - as Python itself would
    return Outcome(kind="exited", code=1)
