"""Nodes of several nodes: as threads of one process, or as processes that stand and fall together.

The children are not added to the program; their colocation is. Each of them keeps a name of its own,
``label/index:place``, and a record in the directory, so handles of children (``child.create_handle()``, before or after
the colocation is added) lead to them from wherever they are used, and ``lp.get_context()``, ``lp.stop()`` and
``lp.wait_for_stop()`` work in them as in every node.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from kourou import errors, threads
from kourou.runtime.context.context import NodeContext, enter_node, inherit_in_threads
from kourou.runtime.graph.failure_policies import OnFailure, Restart
from kourou.runtime.graph.node import Node
from kourou.runtime.interpreter.thread_interrupts import interrupt_thread
from kourou.runtime.model.records import Outcome
from kourou.runtime.node_process.outcomes import ChildFailed, run_to_outcome
from kourou.runtime.node_process.serving import serve
from kourou.runtime.waiting.event_queue import next_of
from kourou.shown import described, shown

_POLL_S = 0.1  # under local_mt a thread hears of StopRequested between two waits of this length
_END_S = 0.5  # for what is left of a colocation that ends: to hear of the stop, then once more to be interrupted
_LIFETIME_S = 1e9  # retries are counted over the whole run; this is thirty years
_BACKOFF_S = 0.1  # as in lp.Restart


class _Colocation(Node):
    def __init__(self, nodes: Iterable[Node]) -> None:
        kind = type(self).__name__
        if not isinstance(nodes, Iterable):
            raise errors.GraphError(f"{kind} takes a list of nodes, got {shown(nodes)}")
        self._nodes = tuple(nodes)
        if not self._nodes:
            raise errors.GraphError(f"{kind}([]) has nothing to run: give it the nodes that it shall hold")
        for node in self._nodes:
            if not isinstance(node, Node):
                raise errors.GraphError(f"{kind} holds nodes such as lp.CourierNode(...), got {shown(node)}")
            if node.name is not None:
                raise errors.GraphError(f"{node.name} is in a program already; a colocation adds its nodes itself")

    @property
    def serves_only(self) -> bool:
        """True: what work there is, is its children's, and each of them says for itself whether it has any."""
        return True

    def children(self) -> tuple[Node, ...]:
        """The nodes that it holds."""
        return self._nodes

    def arguments(self) -> Mapping[str, Any]:
        """None of its own; its children have theirs."""
        return {}

    def describe(self) -> str:
        """``MultiThreadingColocation(CourierNode(Server), PyNode(client))``."""
        return f"{type(self).__name__}({', '.join(node.describe() for node in self._nodes)})"


class MultiThreadingColocation(_Colocation):
    """One node whose children are threads of its process; calls among them never leave it.

    The node fails with the error of the first child that fails. The others are asked to stop then, and interrupted if
    they do not; a thread cannot be killed, so one that does not react ends with the process.

    Args:
        nodes: the children; colocations of threads among them may hold further ones.
        return_on_first_completed: end, and let the others stop, when the first child has finished; False waits for all.

    Raises:
        GraphError: there are no nodes, one of them is in a program already, or one wants processes of its own.
    """

    def __init__(self, nodes: Iterable[Node], return_on_first_completed: bool = False) -> None:  # noqa: FBT001, FBT002 - Launchpad's signature
        super().__init__(nodes)
        self._return_on_first_completed = return_on_first_completed
        for node in self._nodes:
            for member in node.iterate_family():
                if member.children_policy is not None:
                    raise errors.GraphError(
                        f"{member.describe()} has processes of its own, so no MultiThreadingColocation can hold it; "
                        "the other way round works"
                    )

    def run(self, context: NodeContext) -> None:
        """Run the children, each in a thread, until all have ended."""
        with inherit_in_threads(), serve(context):
            _ChildThreads(self._nodes, context).work(until_first=self._return_on_first_completed)


class MultiProcessingColocation(_Colocation):
    """One node whose children are processes of their own, which stand and fall together.

    The launcher starts the children as it starts all processes; the node itself has none. It is ready when they are,
    finishes with the last of them, and fails with the error of the first child that fails once more than it may; the
    other children are killed then, and the group's ``on_failure`` says what follows (``lp.Restart`` starts all of them
    again, with their retries). What ``local_resources`` has for the label, each child gets. Under ``local_mt`` the
    children are threads with the same retries.

    Args:
        nodes: the children; colocations among them may hold further ones.
        num_retries_on_failure: how often each child is started again after a failure. Counted for each child alone.

    Raises:
        GraphError: there are no nodes, one of them is in a program already, or the number is not one.
    """

    def __init__(self, nodes: Iterable[Node], num_retries_on_failure: int = 0) -> None:
        super().__init__(nodes)
        if not isinstance(num_retries_on_failure, int) or num_retries_on_failure < 0:
            raise errors.GraphError(
                f"num_retries_on_failure is a whole number >= 0, got {shown(num_retries_on_failure)}"
            )
        self._retries = num_retries_on_failure

    @property
    def children_policy(self) -> OnFailure:
        """So many restarts for each child."""
        if not self._retries:
            return "fail"
        return Restart(max_times=self._retries, window_s=_LIFETIME_S, backoff_s=_BACKOFF_S)

    def run(self, context: NodeContext) -> None:
        """Never called: the plan has the children in its place."""
        raise NotImplementedError(f"{context.name} runs nothing itself")


class _ChildThreads:
    """The threads of one attempt of a MultiThreadingColocation."""

    def __init__(self, nodes: Iterable[Node], context: NodeContext) -> None:
        self._context = context
        self._stop = context.stop.branch()  # so that the children can be stopped when the program goes on
        self._ends: queue.SimpleQueue[tuple[Node, Outcome] | None] = queue.SimpleQueue()
        self._threads = {
            node: threading.Thread(target=self._run_child, args=(node,), name=f"kourou:{node.name}", daemon=True)
            for node in nodes
        }
        self._failure: Outcome | None = None

    def work(self, *, until_first: bool) -> None:
        """Start the threads and wait for them.

        Raises:
            ChildFailed: a child failed.
            StopRequested: the program stops, and the children had to be interrupted.
        """
        self._stop.register(lambda: self._ends.put(None))  # from then on, wait in short turns
        for node, thread in list(self._threads.items()):
            try:
                threads.start(thread)
            except errors.LaunchError as error:  # that is the child's failure
                refused = Outcome(kind="raised", code=1, exception=described(error))
                self._report(node, refused)
                self._ends.put((node, refused))
        interrupted = False
        try:
            try:
                self._wait(until_first=until_first)
            except errors.StopRequested:
                interrupted = True
                self._gather(_END_S)  # those that only serve were released just now, and are ending
                self._interrupt()
                self._wait()  # SIGTERM, or its like for threads, raises StopRequested once more: that ends it
        finally:
            self._end_rest(patiently=not interrupted)
        if self._failure is not None:
            raise ChildFailed(self._failure)
        if interrupted:
            raise errors.StopRequested

    def _run_child(self, node: Node) -> None:
        """A thread's whole life."""
        name = str(node.name)
        context = dataclasses.replace(self._context, name=name, stop=self._stop)
        outcome = Outcome(kind="stopped")
        try:
            with enter_node(context):
                outcome = run_to_outcome(node.run, context)
            self._report(node, outcome)
        except errors.StopRequested:
            pass  # it came late
        finally:
            self._ends.put((node, outcome))

    def _report(self, node: Node, outcome: Outcome) -> None:
        with contextlib.suppress(errors.RpcError):  # the coordinator is gone, and so will be this process
            self._context.report_child(str(node.name), outcome)

    def _wait(self, *, until_first: bool = False) -> None:
        """Wait until all threads have ended, one failed, or (``until_first``) one ended."""
        enough = len(self._threads) - 1 if until_first else 0
        while len(self._threads) > enough and self._failure is None:
            self._take(_POLL_S if self._stop.event.is_set() else None)

    def _gather(self, timeout_s: float) -> None:
        """Wait so many seconds for all that is left."""
        deadline = time.monotonic() + timeout_s
        while self._threads and (left := deadline - time.monotonic()) > 0:
            self._take(min(_POLL_S, left))

    def _take(self, timeout_s: float | None) -> None:
        """Take note of the next end, if one comes in time."""
        try:
            end = next_of(self._ends, timeout_s)
        except queue.Empty:
            # StopRequested can hit a thread anywhere, even where it was about to tell of its end.
            silent = [node for node, thread in self._threads.items() if not thread.is_alive()]
            for node in silent if self._ends.empty() else ():
                self._report(node, Outcome(kind="stopped"))
                self._note(node, Outcome(kind="stopped"))
            return
        if end is not None:
            self._note(*end)

    def _note(self, node: Node, outcome: Outcome) -> None:
        self._threads.pop(node, None)
        if outcome.clean or self._failure is not None:
            return
        if outcome.kind == "exited":
            outcome = dataclasses.replace(outcome, kind="raised", exception=f"SystemExit: {outcome.code}")
        if not node.children():  # the failure of a colocation names its child already
            outcome = dataclasses.replace(outcome, exception=f"{outcome.exception} (in {node.name})")
        self._failure = outcome

    def _interrupt(self) -> None:
        for thread in self._threads.values():
            interrupt_thread(thread)

    def _end_rest(self, *, patiently: bool) -> None:
        """Let what is left of the crew stop, then insist (unless both was done before), then leave it."""
        if self._threads and patiently:
            self._stop.release()
            self._gather(_END_S)
            self._interrupt()
            self._gather(_END_S)
        for node in self._threads:
            self._report(node, Outcome(kind="left"))
