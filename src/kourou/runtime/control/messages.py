"""Records to protobuf messages and back: the only place where the two meet."""

from __future__ import annotations

from typing import Any

from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.control import coordinator
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState, Outcome
from kourou.runtime.model.status import RunState, RunStatus


def event_to_proto(event: coordinator.Event) -> pb.Event:
    """An event as a message."""
    if isinstance(event, NodeRecord):
        return pb.Event(record=record_to_proto(event))
    if isinstance(event, coordinator.Stop):
        return pb.Event(stop=pb.Stop(reason=event.reason))
    if isinstance(event, coordinator.Release):
        return pb.Event(release=pb.Release(removed=event.removed))
    return pb.Event(welcome=pb.Welcome())


def event_from_proto(message: pb.Event) -> coordinator.Event:
    """The inverse of :func:`event_to_proto`."""
    kind = message.WhichOneof("kind")
    if kind == "record":
        return record_from_proto(message.record)
    if kind == "stop":
        return coordinator.Stop(reason=message.stop.reason)
    if kind == "release":
        return coordinator.Release(removed=message.release.removed)
    return coordinator.Welcome()


def changes_to_proto(name: str, changes: dict[str, Any]) -> pb.Words:
    """What is new of a node's record, as it is said on its stream."""
    update = pb.Update(name=name)
    if "state" in changes:
        update.state = str(changes["state"])
    if "endpoint" in changes:
        update.endpoint = changes["endpoint"]
    if "serves_only" in changes:
        update.serves_only = changes["serves_only"]
    return pb.Words(update=update)


def changes_from_proto(message: pb.Update) -> dict[str, Any]:
    """The inverse of :func:`changes_to_proto`."""
    changes: dict[str, Any] = {}
    if message.HasField("state"):
        changes["state"] = NodeState(message.state)
    if message.HasField("endpoint"):
        changes["endpoint"] = message.endpoint
    if message.HasField("serves_only"):
        changes["serves_only"] = message.serves_only
    return changes


def outcome_to_proto(name: str, outcome: Outcome) -> pb.Words:
    """How a node ended, as it is said on its stream."""
    report = pb.Report(
        name=name, kind=outcome.kind, code=outcome.code, exception=outcome.exception, traceback=outcome.traceback
    )
    return pb.Words(report=report)


def outcome_from_proto(message: pb.Report) -> Outcome:
    """The inverse of :func:`outcome_to_proto`."""
    return Outcome(kind=message.kind, code=message.code, exception=message.exception, traceback=message.traceback)


def record_to_proto(record: NodeRecord) -> pb.NodeRecord:
    """A node's record as a message."""
    return pb.NodeRecord(
        name=record.name,
        state=str(record.state),
        attempt=record.attempt,
        pid=record.pid or 0,
        host=record.host,
        endpoint=record.endpoint or "",
        serves_only=record.serves_only,
        will_restart=record.will_restart,
        started_at=record.started_at or 0.0,
        exit=_exit_to_proto(record.exit) if record.exit else None,
        removed=record.removed,
    )


def record_from_proto(message: pb.NodeRecord) -> NodeRecord:
    """The inverse of :func:`record_to_proto`."""
    return NodeRecord(
        name=message.name,
        state=NodeState(message.state),
        attempt=message.attempt,
        pid=message.pid or None,
        host=message.host,
        endpoint=message.endpoint or None,
        serves_only=message.serves_only,
        will_restart=message.will_restart,
        started_at=message.started_at or None,
        exit=_exit_from_proto(message.exit) if message.HasField("exit") else None,
        removed=message.removed,
    )


def status_to_proto(status: RunStatus) -> pb.StatusReply:
    """A run's status as a message."""
    return pb.StatusReply(
        run_id=status.run_id,
        program=status.program,
        launch_type=status.launch_type,
        state=str(status.state),
        stop_reason=status.stop_reason,
        waits_for=status.waits_for,
        nodes=[record_to_proto(record) for record in status.nodes],
        started_at=status.started_at,
        ended_at=status.ended_at or 0.0,
    )


def status_from_proto(message: pb.StatusReply) -> RunStatus:
    """The inverse of :func:`status_to_proto`."""
    return RunStatus(
        run_id=message.run_id,
        program=message.program,
        launch_type=message.launch_type,
        state=RunState(message.state),
        stop_reason=message.stop_reason,
        waits_for=message.waits_for,
        nodes=tuple(record_from_proto(record) for record in message.nodes),
        started_at=message.started_at,
        ended_at=message.ended_at or None,
    )


def _exit_to_proto(record: ExitRecord) -> pb.ExitRecord:
    return pb.ExitRecord(
        node=record.node,
        attempt=record.attempt,
        state=str(record.state),
        cause=record.cause,
        code=record.code,
        signal=record.signal or "",
        traceback=record.traceback,
        last_lines=record.last_lines,
        log_file=record.log_file or "",
        host=record.host,
        pid=record.pid or 0,
        uptime_s=record.uptime_s,
    )


def _exit_from_proto(message: pb.ExitRecord) -> ExitRecord:
    return ExitRecord(
        node=message.node,
        attempt=message.attempt,
        state=NodeState(message.state),
        cause=message.cause,
        code=message.code if message.HasField("code") else None,
        signal=message.signal or None,
        traceback=message.traceback,
        last_lines=tuple(message.last_lines),
        log_file=message.log_file or None,
        host=message.host,
        pid=message.pid or None,
        uptime_s=message.uptime_s,
    )
