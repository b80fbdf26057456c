"""A launched program, as its launcher sees it."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou import errors
from kourou.notebook import show_live, table
from kourou.runtime.context.context import NodeContext
from kourou.runtime.control.coordinator import Coordinator
from kourou.runtime.files.run_folder import RunFolder
from kourou.runtime.graph.handles import Handle
from kourou.runtime.graph.node import Node
from kourou.runtime.launch.director import Director
from kourou.runtime.launch.elastic import Elastic
from kourou.runtime.model.events import RestartAsked, StopAsked
from kourou.runtime.model.records import ExitRecord, NodeRecord, check_restart
from kourou.runtime.monitoring.node_choice import choose_node
from kourou.runtime.plan.plan import LaunchPlan
from kourou.runtime.stopping import exit_signals
from kourou.runtime.stopping.timeline import interrupted_by
from kourou.runtime.waiting.countdown import Countdown
from kourou.shown import shown

if TYPE_CHECKING:
    from typing_extensions import Self

    from kourou.runtime.diagnosis.finding import Diagnosis

_POLL_S = 0.5  # a wait in the main thread wakes this often, so that a Ctrl-C is never missed


class Run:
    """A running program. ``lp.launch`` returns it.

    Use it in a ``with`` to have the program stopped at the end of the block, or call :meth:`wait` to let it run until
    it ends by itself. A run that is simply dropped is waited for at the interpreter's exit.
    """

    def __init__(
        self, elastic: Elastic, coordinator: Coordinator, director: Director, folder: RunFolder, incarnation: int
    ) -> None:
        self._elastic = elastic
        self._coordinator = coordinator
        self._director = director
        self._folder = folder
        self._incarnation = incarnation
        self._interrupted: int | None = None
        self._failure_told = False
        self._ends_with = ""  # the reason of its stop, if it stops because the node that launched it does

    @property
    def run_id(self) -> str:
        """The run's name, for ``kourou status`` and its like."""
        return self._folder.run_id

    @property
    def incarnation(self) -> int:
        """1, and one more each time that the run was gone on with."""
        return self._incarnation

    @property
    def plan(self) -> LaunchPlan:
        """What was launched, and what was added since."""
        return self._elastic.plan

    @property
    def folder(self) -> Path:
        """The run's folder: plan.json, logs, events.jsonl."""
        return self._folder.path

    @property
    def nodes(self) -> dict[str, NodeRecord]:
        """``label/index`` → state, pid, exit record, as they are now."""
        return {record.name: record for record in self._coordinator.directory.all()}

    @property
    def stop_reason(self) -> str | None:
        """Why it stops, or stopped before all nodes had ended; None: it does not, or did not."""
        return self._coordinator.stop_reason

    @property
    def ended(self) -> bool:
        """True once all nodes have ended and everything was given back."""
        return self._director.ended.is_set()

    @property
    def failures(self) -> tuple[ExitRecord, ...]:
        """How nodes failed, the first failure first."""
        return tuple(self._director.failures)

    def wait(
        self,
        labels: Collection[str] | None = None,
        *,
        raise_error: bool = True,
        return_on_first_completed: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        """Wait until the program has ended, or until some of its nodes have.

        Args:
            labels: wait only for the nodes of these labels; None: for all.
            raise_error: False returns where ProgramFailed would be raised.
            return_on_first_completed: return when one of the nodes has ended, not all.
            timeout_s: seconds; None waits for ever.

        Raises:
            ProgramFailed: a node failed (of any label); the whole program has been stopped by then.
            Interrupted: Ctrl-C, SIGTERM or SIGHUP came, and the program has been stopped.
            StopRequested: a node launched it, and is to stop; it was stopped with that node.
            DeadlineExceeded: ``timeout_s`` passed; the program runs on.
            GraphError: no such label.
        """
        self._names(labels)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with exit_signals.deferred(self):
            waited: set[str] = set()
            while (names := self._names(labels)) != waited:  # others may have been added meanwhile
                self._wait_until(self._completion(names, first=return_on_first_completed), deadline)
                waited = names
            if self._completion(self._names(None))():
                self._wait_until(self._director.ended.is_set, None)
        if self._ends_with and self.stop_reason == self._ends_with:
            raise errors.StopRequested
        self._after_end(raise_error=raise_error)

    def join(self) -> None:
        """Launchpad's name for :meth:`wait` without arguments."""
        self.wait()

    def client(self, node: str) -> Any:
        """A client of a node, for the script that launched it; the same as that of the node's handle.

        It returns at once; the client's first call waits until the node is ready.

        Args:
            node: ``label/index``, or a label of which one node has not ended.

        Raises:
            NotFound: there is none of that name, or several.
            NodeExited: the run has ended.
        """
        return self._elastic.handle_to(choose_node(self.nodes, node)).dereference()

    def restart(self, name: str) -> None:
        """End a node and start it again, whatever its policy says of failures; returns at once.

        Its process is killed, as the system would do it, so what it has not written is lost.

        Args:
            name: ``label/index``; of a colocation, with all that is in it.

        Raises:
            NotFound: there is no such node.
            NodeExited: it has ended, or the run has.
            PlanError: it is a thread: of the launcher, or of a colocation, which can be started again as a whole.
        """
        check_restart(name, self.nodes, self.plan.inside, threads=self.plan.launch_type.threads)
        self._director.tell(RestartAsked(name=name, origin="run.restart()"))

    def add_node(self, node: Node, label: str) -> Handle[Any]:
        """Start one more node, and return a handle of it; whoever calls it waits until it is ready.

        It gets what its group gets (resources, ``on_failure``, placement); a label that the program has not is a group
        of its own, of which ``program.group(label, ...)`` may have said that before the launch.

        Args:
            node: the node, with handles of nodes that run.
            label: its group; its number is one that no node of the group ever had.

        Raises:
            PlanError: it has mistakes, there is no room for it, or the run is stopping; nothing was started.
        """
        return self._elastic.add_node(node, label, "run.add_node()")

    def remove(self, *nodes: str | Handle[Any]) -> None:
        """Stop some nodes, by the steps of a program's stop, and let the others go on; returns once that has begun.

        Whoever calls them gets :class:`NodeRemoved`, at once. However they end, it is no failure of the program.

        Args:
            nodes: ``label/index``, or handles.

        Raises:
            NotFound: there is no such node.
            NodeExited: it has ended.
            PlanError: it is a part of a colocation, or the run is stopping.
        """
        names = [str(node.node_name) if isinstance(node, Handle) else node for node in nodes]
        self._elastic.remove(names, "run.remove()")

    def scale(self, label: str, count: int) -> tuple[str, ...]:
        """Let a group have so many nodes: start more, or :meth:`remove` those with the highest numbers.

        New ones are made like those that are there, with numbers that no node of the group ever had: it is what
        ``lp.get_context().index`` says, and arguments that went up with the numbers (``seed=i``) go on with them. Those
        that have ended do not count. Returns once it has begun, with the names of those that come or go.

        Args:
            label: the group.
            count: how many there shall be.

        Raises:
            NotFound: there is no such group.
            PlanError: it cannot be scaled, there is no room, or the run is stopping; nothing has changed.
        """
        return self._elastic.scale(label, count, "run.scale()")

    def doctor(self) -> Diagnosis:
        """Why the program does not go on, as ``kourou doctor`` says it; or how it ended. Takes about a second."""
        from kourou.runtime.diagnosis.doctor import examine  # noqa: PLC0415 - a launcher may do without gRPC
        from kourou.runtime.monitoring.run_search import find_run  # noqa: PLC0415 - goes with it

        return examine(find_run(self.folder))

    def stop(self, reason: str = "run.stop() was called", *, wait: bool = True) -> None:
        """End the program.

        Args:
            reason: recorded and told to the nodes.
            wait: block until all nodes have ended.
        """
        self._director.tell(StopAsked(reason=reason, origin="launcher"))
        if wait:
            with exit_signals.deferred(self):
                self._wait_until(self._director.ended.is_set, None)
            if self.ended and threading.current_thread() is threading.main_thread():
                exit_signals.restore_if_idle()

    def stop_and_wait(self) -> None:
        """Launchpad's name for :meth:`stop`."""
        self.stop()

    def ending_with(self, node: NodeContext) -> AbstractContextManager[None]:
        """While entered: stop the program when the node stops that launched it."""
        self._ends_with = f"{node.name} of run {node.run_id}, which launched it, stops"
        return node.stop.watched_by(lambda: self.stop(self._ends_with, wait=False))

    def interrupt(self, code: int, *, insist: bool = True) -> None:
        """What a first or second Ctrl-C does: stop the program, or kill it.

        Args:
            code: the exit code that it leads to.
            insist: False asks, though it was asked before.
        """
        again = insist and self._interrupted is not None
        self._interrupted = self._interrupted or code
        self._director.tell(StopAsked(reason=interrupted_by(code), origin="launcher", at_once=again))

    def __repr__(self) -> str:
        states = Counter(str(record.state) for record in self.nodes.values())
        return f"<run {self.run_id}: {', '.join(f'{count} {state}' for state, count in states.items())}>"

    def _repr_html_(self) -> str:
        """Its nodes, as they are now."""
        now = time.time()
        rows = [
            (
                record.name,
                record.state,
                record.attempt or None,
                record.pid,
                f"{now - record.started_at:.0f} s" if record.started_at and not record.state.ended else None,
                record.exit.cause if record.exit is not None else None,
            )
            for record in self.nodes.values()
        ]
        return table(f"run {self.run_id}, {self.folder}", ("node", "state", "try", "pid", "up", "last end"), rows)

    def _ipython_display_(self) -> None:
        """In a notebook, the table follows the run to its end."""
        show_live(self, self._repr_html_, lambda: self.ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: object) -> None:
        self.stop("the end of the with block was reached")
        if exc is None:
            self._after_end(raise_error=True)
        elif self._director.failures:
            self._failure_told = True
            if sys.version_info >= (3, 11):
                exc.add_note(str(self._failure()))

    def _names(self, labels: Collection[str] | None) -> set[str]:
        names = {node.name for node in self.plan.nodes if node.parent is None}  # a colocation ends with its children
        if labels is None:
            return names
        if not isinstance(labels, Collection):
            raise errors.GraphError(f"wait takes labels of nodes, got {shown(labels)}; seconds are wait(timeout_s=…)")
        wanted = {labels} if isinstance(labels, str) else set(labels)
        known = {name.rpartition("/")[0] for name in names}
        if unknown := wanted - known:
            raise errors.GraphError(f"wait: no label {', '.join(sorted(unknown))} in program {self.plan.program!r}")
        return {name for name in names if name.rpartition("/")[0] in wanted}

    def _completion(self, names: set[str], *, first: bool = False) -> Callable[[], bool]:
        """Whether all of these nodes, or the first of them, are gone, or the program has failed or was interrupted.

        Or its director has ended, or was lost: then nobody hears of a node's end any more, nor of one that was to be
        added when it was too late.
        """
        left = Countdown(names, self._gone)

        def holds() -> bool:
            director = self._director
            if (
                director.failures
                or self._interrupted is not None
                or director.crash is not None
                or director.ended.is_set()
            ):
                return True
            return any(map(self._gone, names)) if first else left.done()

        return holds

    def _gone(self, name: str) -> bool:
        record = self._coordinator.directory.get(name)
        return record is not None and record.gone

    def _wait_until(self, holds: Callable[[], bool], deadline: float | None) -> None:
        with self._director.changed:
            while not holds():
                left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
                if left <= 0:
                    raise errors.DeadlineExceeded(f"run {self.run_id} had not ended in the time given; it runs on")
                self._director.changed.wait(left)

    def _after_end(self, *, raise_error: bool) -> None:
        if self.ended and threading.current_thread() is threading.main_thread():
            exit_signals.restore_if_idle()
        if self._interrupted is not None:
            error = errors.Interrupted(f"run {self.run_id} was stopped", self._interrupted)
            raise exit_signals.interrupted(error)
        if self._director.crash is not None:
            self._failure_told = True
            raise errors.LaunchError(
                f"run {self.run_id} was lost to a fault of kourou itself"
            ) from self._director.crash
        if self._director.failures:
            self._failure_told = True
            if raise_error:
                raise self._failure()

    def _failure(self) -> errors.ProgramFailed:
        first, *others = self._director.failures
        text = f"program {self.plan.program!r} failed: {first.describe()}"
        if others:
            text += "\n  then failed: " + "; ".join(f"{r.node} {r.cause}" for r in others)
        return errors.ProgramFailed(f"{text}\n  run folder: {self.folder}", tuple(self._director.failures))

    def finish_at_exit(self) -> str | None:
        """At the interpreter's exit: wait for the end; the text of a failure that nobody was told of, or None."""
        self._wait_until(self._director.ended.is_set, None)
        if self._director.crash is not None and not self._failure_told:
            return f"run {self.run_id} was lost: {self._director.crash} (did the launcher call run.wait()?)"
        if self._director.failures and not self._failure_told:
            return str(self._failure())
        return None
