"""Records to protobuf messages and back: the only place where the two meet."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from kourou.proto.v1 import coordinator_pb2 as pb
from kourou.runtime.control.node_events import Event, Release, Stop, Welcome
from kourou.runtime.model.records import ExitRecord, NodeRecord, NodeState, Outcome
from kourou.runtime.model.status import RunState, RunStatus

SERVICE = "kourou.v1.Coordinator"

T = TypeVar("T")


def event_to_proto(event: Event) -> pb.Event:
    """An event as a message."""
    if isinstance(event, NodeRecord):
        return pb.Event(record=record_to_proto(event))
    if isinstance(event, Stop):
        return pb.Event(stop=pb.Stop(reason=event.reason))
    if isinstance(event, Release):
        return pb.Event(release=pb.Release(removed=event.removed))
    return pb.Event(welcome=pb.Welcome())


def event_from_proto(message: pb.Event) -> Event:
    """The inverse of :func:`event_to_proto`."""
    kind = message.WhichOneof("kind")
    if kind == "record":
        return record_from_proto(message.record)
    if kind == "stop":
        return Stop(reason=message.stop.reason)
    if kind == "release":
        return Release(removed=message.release.removed)
    return Welcome()


def changes_to_proto(name: str, changes: dict[str, Any]) -> pb.Words:
    """What is new of a node's record, as it is said on its stream."""
    return pb.Words(update=pb.Update(name=name, **changes))


def changes_from_proto(message: pb.Update) -> dict[str, Any]:
    """The inverse of :func:`changes_to_proto`."""
    changes = {field.name: value for field, value in message.ListFields() if field.name != "name"}
    return {**changes, "state": NodeState(changes["state"])} if "state" in changes else changes


def outcome_to_proto(name: str, outcome: Outcome) -> pb.Words:
    """How a node ended, as it is said on its stream."""
    return pb.Words(report=pb.Report(name=name, **_known(outcome)))


def outcome_from_proto(message: pb.Report) -> Outcome:
    """The inverse of :func:`outcome_to_proto`."""
    return _of_message(Outcome, message)


def record_to_proto(record: NodeRecord) -> pb.NodeRecord:
    """A node's record as a message."""
    end = pb.ExitRecord(**_known(record.exit)) if record.exit else None
    return pb.NodeRecord(**_known(record, exit=end))


def record_from_proto(message: pb.NodeRecord) -> NodeRecord:
    """The inverse of :func:`record_to_proto`."""
    end = _exit_from_proto(message.exit) if message.HasField("exit") else None
    return _of_message(NodeRecord, message, state=NodeState(message.state), exit=end)


def status_to_proto(status: RunStatus) -> pb.StatusReply:
    """A run's status as a message."""
    return pb.StatusReply(**_known(status, nodes=map(record_to_proto, status.nodes)))


def status_from_proto(message: pb.StatusReply) -> RunStatus:
    """The inverse of :func:`status_to_proto`."""
    nodes = tuple(map(record_from_proto, message.nodes))
    return _of_message(RunStatus, message, state=RunState(message.state), nodes=nodes)


def _exit_from_proto(message: pb.ExitRecord) -> ExitRecord:
    code = message.code if message.HasField("code") else None  # 0 is one
    lines = tuple(message.last_lines)
    return _of_message(ExitRecord, message, state=NodeState(message.state), code=code, last_lines=lines)


def _known(record: object, **fields: object) -> dict[str, Any]:
    """A record's fields, as the message of the same fields has them, but for these; what is None is not set there."""
    return {name: value for name, value in vars(record).items() if value is not None} | fields


def _of_message(kind: type[T], message: Any, **fields: Any) -> T:
    """A record of a message with the same fields; what may be None is None where nothing is set there."""
    for field in dataclasses.fields(kind):  # type: ignore[arg-type] # they are dataclasses
        if field.name not in fields:
            value = getattr(message, field.name)
            fields[field.name] = value if value or field.default is not None else None
    return kind(**fields)
