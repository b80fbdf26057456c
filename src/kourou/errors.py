"""Every error that kourou raises on purpose, as one tree.

A name says what happened (``NodeExited``, ``TableNotFound``), or else what it is about, with the suffix ``Error``
(``GraphError``); ``AgentFailedError`` and ``WorkerFailedError`` have the names that torchrunx gave them.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar

__all__ = [
    "AgentFailedError",
    "BroadcastError",
    "CallCancelled",
    "CheckpointError",
    "ConnectionLost",
    "DeadlineExceeded",
    "DeferredError",
    "GraphError",
    "HandleNotResolved",
    "Interrupted",
    "KourouError",
    "LaunchError",
    "MissingExtra",
    "NoTerminal",
    "NodeExited",
    "NodeRemoved",
    "NodeRestarted",
    "NotFound",
    "NotInProgram",
    "NotOwned",
    "NotSupported",
    "PlanError",
    "ProgramFailed",
    "ProtocolError",
    "RemoteError",
    "ReplayError",
    "ResultsError",
    "RpcError",
    "RunUnavailable",
    "SerializationError",
    "ServerOverloaded",
    "ServerUnavailable",
    "SignatureError",
    "StatusCode",
    "StopRequested",
    "TableNotFound",
    "Unauthenticated",
    "UnknownMethod",
    "UnsupportedPlatform",
    "UsedAfterFork",
    "VersionError",
    "VersionNotFound",
    "WeightsError",
    "WeightsOutdated",
    "WorkerFailedError",
    "WriterExpired",
]


class KourouError(Exception):
    """The root of all errors that kourou raises on purpose."""

    @property
    def __notes__(self) -> list[str]:
        """What Python shows below a traceback, from 3.11 on."""
        own = next(kind for kind in type(self).__mro__ if kind.__module__ == __name__)
        where = [f"what it means, and what to do: kourou explain {own.__name__}"]
        notes: list[str] = self.__dict__.setdefault("__notes__", [] if own is KourouError else where)
        return notes


class GraphError(KourouError, ValueError):
    """A program was built in a way that has no meaning (labels, groups, handles)."""


class PlanError(KourouError, ValueError):
    """Compiling found mistakes; nothing was started.

    ``problems`` holds one line for each mistake, so that all can be mended at once.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems: tuple[str, ...] = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{len(self.problems)} mistakes in the program:\n{listed}"


class DeferredError(KourouError, RuntimeError):
    """The constructor of a Deferred raised; the message says where the Deferred was written."""


class HandleNotResolved(KourouError, AttributeError):
    """A handle was used as if it were the client that it stands for."""


class NotInProgram(KourouError, RuntimeError):
    """The caller asked for its node or its program, but belongs to none."""


class NoTerminal(KourouError, EOFError):
    """A debugger or ``input()`` wants somebody to type, and a node in a process of its own has no terminal."""


class NotFound(KourouError, LookupError):
    """There is no run, or no node, of the name given, or there are several; the message lists those to choose from."""


class NotOwned(KourouError, PermissionError):
    """A file or a folder belongs to another user, or others can write to it: nothing of it is used."""


class LaunchError(KourouError, RuntimeError):
    """A process could not be started."""


class UnsupportedPlatform(KourouError, RuntimeError):
    """This operating system or Python lacks what kourou needs."""


class NotSupported(KourouError, NotImplementedError):
    """Another project has it, and kourou has not; the message says what to use instead."""


class ResultsError(KourouError, ValueError):
    """Measurements cannot be read, or cannot be compared."""


class MissingExtra(KourouError, ImportError):
    """An optional package is needed.

    Args:
        package: what could not be imported.
        extra: the extra of kourou that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; get it with: pip install 'kourou[{extra}]'", name=package)
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra)


class ProgramFailed(KourouError, RuntimeError):
    """A node failed and its policy ended the program.

    ``records`` are the exit records of the nodes that failed, the first failure first.
    """

    def __init__(self, message: str, records: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.records = records

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.records)


class ReplayError(KourouError):
    """What a replay server is asked for makes no sense, or cannot be done."""


class TableNotFound(ReplayError, KeyError):
    """A replay server has no table of that name."""

    __str__ = Exception.__str__  # KeyError would show the message with quotation marks around it


class SignatureError(ReplayError, ValueError):
    """An item does not look as the signature of its table says."""


class WriterExpired(ReplayError, RuntimeError):
    """The server does not know this writer (any more): it was given up for dead, or the server is another one."""


class CheckpointError(KourouError, RuntimeError):
    """A checkpoint cannot be written, is damaged, or does not fit the tables that it is to be read into."""


class WeightsError(KourouError):
    """What is asked of a weights node makes no sense, or cannot be done."""


class VersionError(WeightsError, ValueError):
    """A version of weights is published that is not above those that were published before."""


class VersionNotFound(WeightsError, LookupError):
    """There is no such version of the weights: it was not published, was skipped, or is not kept any more."""


class WeightsOutdated(WeightsError, RuntimeError):
    """The weights are older than their reader may have them; the message says whose they are, and since when."""


class BroadcastError(KourouError, RuntimeError):
    """Many nodes were called at once and some failed (or, where one result was enough, all of them).

    Attributes:
        method: what was called.
        nodes: the names of all nodes that were called, in their order.
        results: index → result, of the nodes that answered.
        failures: index → exception, of those that failed.
    """

    def __init__(
        self, method: str, nodes: tuple[str, ...], results: dict[int, Any], failures: dict[int, Exception]
    ) -> None:
        told = [f"{nodes[index]} {_failure(error)}" for index, error in list(failures.items())[:_MOST_TOLD]]
        if len(failures) > _MOST_TOLD:
            told.append(f"and {len(failures) - _MOST_TOLD} more")
        listed = "; ".join(told) if nodes else "there is no node to call"
        super().__init__(f"{method}: {len(failures)} of {len(nodes)} nodes failed: {listed}")
        self.method = method
        self.nodes = nodes
        self.results = results
        self.failures = failures

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.method, self.nodes, self.results, self.failures)


_MOST_TOLD = 8  # failures in a BroadcastError's message; a thousand nodes may fail in the same way


def _failure(error: Exception) -> str:
    if isinstance(error, RemoteError):
        return f"raised {error.remote_type}: {error}"
    return f"({type(error).__name__}: {error})"


class AgentFailedError(KourouError, RuntimeError):
    """A host could not be reached, or was lost during a spmd run; the message holds what ssh said.

    A host that a program loses is told of by the exit records of the nodes on it.

    Attributes:
        hostname: the host.
    """

    hostname: str = ""


class WorkerFailedError(KourouError, RuntimeError):
    """A worker of a spmd run ended without a result: by a signal, by an exit, or because it could not start.

    Attributes:
        rank, hostname, local_rank: which one.
        code: its exit code; None when a signal ended it.
        signal: the signal's name; None when it exited.
        last_lines: the end of its output.
        log_file: where all of it is; None when files are off.
    """

    rank: int = -1
    hostname: str = ""
    local_rank: int = -1
    code: int | None = None
    signal: str | None = None
    last_lines: tuple[str, ...] = ()
    log_file: str | None = None


class RemoteError(KourouError):
    """A remote method raised.

    What a caller catches is an instance of this class *and* of the original one, so both
    ``except ValueError`` and ``except RemoteError`` work.

    Attributes:
        remote_type: qualified name of the original class.
        remote_traceback: the server's traceback as text.
        node: the node (or address) that ran the method.
        host: its host name.
        method: the method called.
    """

    remote_type: str = ""
    remote_traceback: str = ""
    node: str = ""
    host: str = ""
    method: str = ""


class StatusCode(enum.IntEnum):
    """gRPC's status codes, as far as there are errors for them."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class RpcError(KourouError):
    """A call could not be made, or could not be finished.

    Attributes:
        code: what gRPC calls it.
        message: the text. It has gRPC's words where programs are known to look for them.
    """

    code: ClassVar[StatusCode] = StatusCode.UNKNOWN
    _words: ClassVar[str] = ""

    @property
    def message(self) -> str:
        """What ``str`` gives."""
        return str(self)

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self._words})" if self._words and self._words not in text else text


class DeadlineExceeded(RpcError, TimeoutError):
    """The time-out of a call, a wait or a connection passed."""

    code = StatusCode.DEADLINE_EXCEEDED
    _words = "Deadline Exceeded"


class CallCancelled(RpcError):
    """The call was cancelled, by its caller or because its server stopped."""

    code = StatusCode.CANCELLED


class ServerUnavailable(RpcError, ConnectionError):
    """No connection could be made; the call was not sent."""

    code = StatusCode.UNAVAILABLE
    _words = "failed to connect to all addresses"


class RunUnavailable(ServerUnavailable):
    """Nobody answers for a run: it has ended, has not begun, is suspended, or is elsewhere."""

    _words = ""  # nothing was connected to


class ConnectionLost(RpcError, ConnectionError):
    """The connection broke while the call was under way; it may or may not have run."""

    code = StatusCode.UNAVAILABLE


class NodeExited(ConnectionLost):
    """The node that was called has ended, so no answer will ever come."""


class NodeRemoved(NodeExited):
    """The node that was called was removed from its running program."""


class NodeRestarted(ConnectionLost):
    """The node was restarted while the call was under way; the call was not repeated."""


class UsedAfterFork(RpcError, RuntimeError):
    """A child of ``os.fork()`` would wait for ever: in gRPC, or for what its parent is to hear."""

    code = StatusCode.FAILED_PRECONDITION


class Unauthenticated(RpcError, PermissionError):
    """The peer did not show the token of this program."""

    code = StatusCode.UNAUTHENTICATED


class ServerOverloaded(RpcError):
    """The server's queue is full; the call did not run."""

    code = StatusCode.RESOURCE_EXHAUSTED


class SerializationError(RpcError, TypeError):
    """A value cannot cross a process boundary."""

    code = StatusCode.INVALID_ARGUMENT


class UnknownMethod(RpcError, AttributeError):
    """The server has no method of that name; the message lists what it has."""

    code = StatusCode.NOT_FOUND


class ProtocolError(RpcError):
    """A frame was malformed or passed a limit; the connection was closed."""

    code = StatusCode.INTERNAL


class StopRequested(SystemExit):
    """Raised in the main thread of a node that does not poll, once the program stops.

    It derives from SystemExit, so ``finally`` blocks and context managers run, ``except Exception`` does not
    swallow it, and a node that lets it pass ends without a traceback.
    """


class Interrupted(KeyboardInterrupt):
    """The user pressed Ctrl-C (or sent SIGTERM), and what was launched has been stopped.

    ``except KeyboardInterrupt`` catches it; when nobody does, the interpreter exits with ``code`` and no traceback. It
    ends a notebook's cell, and those that would run next.

    Attributes:
        code: 128 and the signal's number.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: who pressed the button knows where."""
        return [f"KeyboardInterrupt: {self}"]
