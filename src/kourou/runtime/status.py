"""The state of a run as a message, for whoever asks over gRPC."""

from __future__ import annotations

from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.coordinator import Coordinator
from kourou.runtime.messages import record_to_proto
from kourou.runtime.plan import LaunchPlan

__all__ = ["status_reply"]


def status_reply(plan: LaunchPlan, run_id: str, coordinator: Coordinator) -> pb.StatusReply:
    """The present state of a run and of all of its nodes."""
    return pb.StatusReply(
        run_id=run_id,
        program=plan.program,
        launch_type=str(plan.launch_type),
        stopping=coordinator.stop_reason is not None,
        stop_reason=coordinator.stop_reason or "",
        nodes=[record_to_proto(record) for record in coordinator.directory.all()],
    )
