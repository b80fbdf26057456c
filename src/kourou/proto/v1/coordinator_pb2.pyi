from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Words(_message.Message):
    __slots__ = ("attach", "update", "report")
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    attach: Attach
    update: Update
    report: Report
    def __init__(self, attach: _Optional[_Union[Attach, _Mapping]] = ..., update: _Optional[_Union[Update, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ...) -> None: ...

class Attach(_message.Message):
    __slots__ = ("name", "attempt")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    name: str
    attempt: int
    def __init__(self, name: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class Update(_message.Message):
    __slots__ = ("name", "state", "endpoint", "serves_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    SERVES_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: str
    endpoint: str
    serves_only: bool
    def __init__(self, name: _Optional[str] = ..., state: _Optional[str] = ..., endpoint: _Optional[str] = ..., serves_only: bool = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("name", "kind", "code", "exception", "traceback")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    EXCEPTION_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    code: int
    exception: str
    traceback: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., code: _Optional[int] = ..., exception: _Optional[str] = ..., traceback: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("welcome", "record", "stop", "release")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    record: NodeRecord
    stop: Stop
    release: Release
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., record: _Optional[_Union[NodeRecord, _Mapping]] = ..., stop: _Optional[_Union[Stop, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Stop(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: str
    def __init__(self, removed: _Optional[str] = ...) -> None: ...

class NodeRecord(_message.Message):
    __slots__ = ("name", "state", "attempt", "pid", "host", "endpoint", "serves_only", "will_restart", "started_at", "exit", "removed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    SERVES_ONLY_FIELD_NUMBER: _ClassVar[int]
    WILL_RESTART_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    EXIT_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: str
    attempt: int
    pid: int
    host: str
    endpoint: str
    serves_only: bool
    will_restart: bool
    started_at: float
    exit: ExitRecord
    removed: str
    def __init__(self, name: _Optional[str] = ..., state: _Optional[str] = ..., attempt: _Optional[int] = ..., pid: _Optional[int] = ..., host: _Optional[str] = ..., endpoint: _Optional[str] = ..., serves_only: bool = ..., will_restart: bool = ..., started_at: _Optional[float] = ..., exit: _Optional[_Union[ExitRecord, _Mapping]] = ..., removed: _Optional[str] = ...) -> None: ...

class ExitRecord(_message.Message):
    __slots__ = ("node", "attempt", "state", "cause", "code", "signal", "traceback", "last_lines", "log_file", "host", "pid", "uptime_s")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    LAST_LINES_FIELD_NUMBER: _ClassVar[int]
    LOG_FILE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    node: str
    attempt: int
    state: str
    cause: str
    code: int
    signal: str
    traceback: str
    last_lines: _containers.RepeatedScalarFieldContainer[str]
    log_file: str
    host: str
    pid: int
    uptime_s: float
    def __init__(self, node: _Optional[str] = ..., attempt: _Optional[int] = ..., state: _Optional[str] = ..., cause: _Optional[str] = ..., code: _Optional[int] = ..., signal: _Optional[str] = ..., traceback: _Optional[str] = ..., last_lines: _Optional[_Iterable[str]] = ..., log_file: _Optional[str] = ..., host: _Optional[str] = ..., pid: _Optional[int] = ..., uptime_s: _Optional[float] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("follower", "name")
    FOLLOWER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    follower: str
    name: str
    def __init__(self, follower: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Records(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[NodeRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[NodeRecord, _Mapping]]] = ...) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ("reason", "origin")
    REASON_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    reason: str
    origin: str
    def __init__(self, reason: _Optional[str] = ..., origin: _Optional[str] = ...) -> None: ...

class RestartRequest(_message.Message):
    __slots__ = ("name", "origin")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    name: str
    origin: str
    def __init__(self, name: _Optional[str] = ..., origin: _Optional[str] = ...) -> None: ...

class ResizeRequest(_message.Message):
    __slots__ = ("id", "origin", "label", "count", "node", "names")
    ID_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    id: str
    origin: str
    label: str
    count: int
    node: bytes
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., origin: _Optional[str] = ..., label: _Optional[str] = ..., count: _Optional[int] = ..., node: _Optional[bytes] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class ResizeReply(_message.Message):
    __slots__ = ("done", "names", "error", "error_type")
    DONE_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    done: bool
    names: _containers.RepeatedScalarFieldContainer[str]
    error: str
    error_type: str
    def __init__(self, done: bool = ..., names: _Optional[_Iterable[str]] = ..., error: _Optional[str] = ..., error_type: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("run_id", "program", "launch_type", "state", "stop_reason", "nodes", "started_at", "ended_at", "waits_for")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_TYPE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    program: str
    launch_type: str
    state: str
    stop_reason: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeRecord]
    started_at: float
    ended_at: float
    waits_for: str
    def __init__(self, run_id: _Optional[str] = ..., program: _Optional[str] = ..., launch_type: _Optional[str] = ..., state: _Optional[str] = ..., stop_reason: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeRecord, _Mapping]]] = ..., started_at: _Optional[float] = ..., ended_at: _Optional[float] = ..., waits_for: _Optional[str] = ...) -> None: ...

class StacksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StacksReply(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
