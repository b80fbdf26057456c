"""A node as the target of a client: where it listens comes from the directory, and so does why it no longer does."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from typing import Any

from kourou import errors
from kourou.courier import Endpoint
from kourou.runtime.context.context import Binding, binding_of
from kourou.runtime.model.records import NodeRecord
from kourou.waits import PATIENCE_S, Blocked, waits_in

_log = logging.getLogger("kourou")

_REASON_WITHIN_S = 1.0  # an exit is known within milliseconds of the broken connection, unless a machine is overloaded


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeTarget:
    """A node to be called: who it is, and where it listens. Implements :class:`kourou.courier.Target`.

    It can be pickled, and then stands for the same node of the same run in every process of that run.
    """

    name: str
    """``label/index``."""
    binding: Binding = dataclasses.field(repr=False)

    @property
    def token(self) -> str:
        """The program's token."""
        return self.binding.token

    @property
    def tls(self) -> bytes | None:
        """The certificate to trust on the gRPC lane; None: it speaks no TLS."""
        return self.binding.tls

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.binding.run_id, self.name)

    def endpoint(self, timeout_s: float | None) -> Endpoint:
        """Where the node's courier server listens; otherwise as :meth:`address`."""
        return Endpoint.from_json(self.address(timeout_s))

    @waits_in(
        lambda here: Blocked(
            on=here["self"].name, what="to be ready", since=here["waited_since"], ends="it becomes ready, or ends"
        )
    )
    def address(self, timeout_s: float | None = None) -> str:
        """What the node published as its ``endpoint``; blocks until it is ready, and says so every ten seconds.

        Args:
            timeout_s: seconds; None waits for ever.

        Raises:
            DeadlineExceeded: it was not ready in time.
            NodeExited: it has ended and will not be back.
            NodeRemoved: it was removed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        waited_since = time.monotonic()
        while True:
            left_s = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
            record = self.binding.control.wait(self.name, _known, min(PATIENCE_S, left_s))
            if record is not None and (record.gone or record.removed):
                raise self._how_it_ended(record)
            if record is not None and record.endpoint is not None:
                return record.endpoint
            present = self.binding.control.wait(self.name, lambda _: True, 0)
            state = present.state if present else "unknown"
            waited = time.monotonic() - waited_since
            if deadline is not None and time.monotonic() >= deadline:
                raise errors.DeadlineExceeded(f"{self.name} was not ready within {waited:.1f} s (its state is {state})")
            _log.warning(
                "still waiting for %s after %.0f s (its state is %s); kourou doctor tells why", self.name, waited, state
            )

    def lost(self, endpoint: Endpoint) -> errors.RpcError:
        """Why calls in flight to ``endpoint`` will not be answered."""
        text = endpoint.to_json()
        record = self.binding.control.wait(self.name, lambda r: _has_left(r, text), _REASON_WITHIN_S)
        if record is None:
            reason = f"the connection to {self.name} broke while it was running; the call may or may not have run"
            return errors.ConnectionLost(reason)
        if record.gone or record.removed:
            return self._how_it_ended(record)
        return errors.NodeRestarted(
            f"{self.name} was restarted while a call was under way; the call may have run, and is not repeated"
        )

    def _how_it_ended(self, record: NodeRecord) -> errors.NodeExited:
        if record.removed:
            return errors.NodeRemoved(f"{self.name} was removed from the running program ({record.removed})")
        if record.exit is None:
            return errors.NodeExited(f"{self.name} has ended ({record.state})")
        log = f"; log: {record.exit.log_file}" if record.exit.log_file else ""
        return errors.NodeExited(f"{self.name} has ended: {record.exit.cause}{log}")


def _restore(run_id: str, name: str) -> NodeTarget:
    return NodeTarget(name=name, binding=binding_of(run_id, name))


def _has_left(record: NodeRecord, endpoint: str) -> bool:
    return record.state.ended or record.endpoint != endpoint or bool(record.removed)


def _known(record: NodeRecord) -> bool:
    return record.gone or bool(record.removed) or record.serves
