"""A node's checkpoints: loaded before it serves, written by a clock and before it ends.

A thread writes all of them, so that what interrupts a node that stops does not tear one out of its work.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou import errors, threads
from kourou.checkpoint_files import CheckpointFolder, facts_of
from kourou.runtime.context.context import NodeContext, enter_node
from kourou.runtime.files.run_folder import node_checkpoints
from kourou.runtime.graph.checkpoints import Checkpoints
from kourou.runtime.interpreter.thread_interrupts import shielded
from kourou.runtime.interpreter.user_code import run_user_code
from kourou.runtime.model.reports import NodeDetails
from kourou.runtime.node_process import metering
from kourou.runtime.node_process.outcomes import caused_by_stop
from kourou.shown import described
from kourou.tracebacks import format_failure

if TYPE_CHECKING:
    from kourou.courier import Server

_PATIENCE_S = 1.0  # after a stop, until a node whose work goes on is saved in the midst of it
_LONG_S = 2.0  # of the last checkpoint, before people are told that it is being written
_POLL_S = 0.05


class Keeper:
    """Writes a node's checkpoints while its body runs, and the last one at its end.

    Args:
        context: the node.
        when: they are written.
        write: writes one; its folder.
        loaded: the checkpoint that the node began with.
        runs: the body does work that may not end by itself when the program stops.
    """

    def __init__(
        self,
        context: NodeContext,
        when: Checkpoints,
        write: Callable[[], Path],
        *,
        loaded: Path | None,
        runs: bool = False,
    ) -> None:
        self.ended = threading.Event()
        """Set once the body has ended."""
        self._context = context
        self._when = when
        self._write = write
        self._loaded = loaded
        self._runs = runs
        self._wake = threading.Event()
        self._watching = contextlib.ExitStack()
        self._last_wanted = False
        self._written: tuple[str, float, float] | None = None  # which, when, and in how many seconds
        self._failure: tuple[str, float] | None = None
        self._saved_since_stop = False
        self._thread = threading.Thread(target=self._work, name="kourou-checkpoints", daemon=True)

    def __enter__(self) -> Keeper:  # noqa: PYI034 - typing has Self from Python 3.11 on
        with shielded():
            self._watching.enter_context(self._context.stop.watched_by(self._wake.set))
            threads.start(self._thread)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Write the last one, unless the node failed: then its state may be anything."""
        interrupted = isinstance(error, errors.StopRequested) or caused_by_stop(error, self._context)
        ended_itself = not interrupted and (error is None or isinstance(error, SystemExit))
        self._last_wanted = self._when.on_stop and (ended_itself or (interrupted and not self._saved_since_stop))
        late: errors.StopRequested | None = None
        patience_s: float | None = _LONG_S
        with shielded():
            self.ended.set()
            self._wake.set()
            while self._thread.is_alive():
                try:
                    self._thread.join(patience_s)
                except errors.StopRequested as stop:
                    late = stop
                if patience_s is not None and self._thread.is_alive():
                    patience_s = None
                    _say(f"{self._context.name} writes its checkpoint; a stop gives it until the end of its timeline")
            self._watching.close()
        if late is not None and error is None:
            raise late

    def lines(self) -> list[str]:
        """For ``kourou status``."""
        told, now = [], time.time()
        if self._written is not None:
            name, written_at, took_s = self._written
            told.append(f"{name}, {now - written_at:.0f} s old, written in {took_s:.1f} s")
        if self._loaded is not None:
            told.append(f"began with {self._loaded.name}")
        if self._failure is not None:
            told.append(f"failed to write a checkpoint {now - self._failure[1]:.0f} s ago: {self._failure[0]}")
        return told

    def _work(self) -> None:
        with enter_node(self._context):
            for due in _clock(self._when.every_s):
                if self._wake.wait(None if due is None else max(0.0, due - time.monotonic())):
                    break  # the program stops, or the node ends
                self._save()
            if self._runs and self._when.on_stop and not self.ended.wait(_PATIENCE_S):
                self._save()  # it goes on, and will be interrupted wherever it is
                self._saved_since_stop = self._failure is None
            self.ended.wait()
            if self._last_wanted:
                self._save()

    def _save(self) -> None:
        started = time.monotonic()
        try:
            path = self._write()
        except errors.CallCancelled:  # the node has ended meanwhile, and this is done once more
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a full disk, or the user's: the node goes on
            is_news = self._failure is None
            self._failure = str(error), time.time()
            how = f"\n{format_failure(error.__cause__ or error)}".rstrip() if is_news else ""
            _say(f"{self._context.name} wrote no checkpoint: {error}{how}")
        else:
            self._failure = None
            self._written = path.name, time.time(), time.monotonic() - started


@contextlib.contextmanager
def keeping_object(
    context: NodeContext,
    when: Checkpoints,
    instance: Any,
    server: Server,
    *,
    runs: bool = False,
    folder: str | None = None,
) -> Iterator[Callable[[], list[str]]]:
    """Load an object that has ``save`` and ``load``; in the body, which serves and runs it, its state is kept.

    Args:
        context: the node.
        when: as its group says.
        instance: the object.
        server: of the node; not started yet.
        runs: the object does work of its own.
        folder: for the checkpoints; None: in the run's.

    Yields:
        What tells of the checkpoints.

    Raises:
        CheckpointError: ``load`` failed.
    """
    state = _ObjectState(context, when, instance, server, folder)
    with Keeper(context, when, state.write, loaded=state.load(), runs=runs) as keeper:
        state.ended = keeper.ended
        yield keeper.lines


@contextlib.contextmanager
def keeping_state(
    context: NodeContext, when: Checkpoints | None, instance: object, server: Server, *, runs: bool
) -> Iterator[None]:
    """As :func:`keeping_object`, if it has ``save`` and ``load``; else nothing."""
    if not _keeps_state(instance):
        yield
        return
    if when is None:  # nobody has asked for it in so many words
        try:
            folder_in_run(context)
        except errors.CheckpointError as error:
            _say(str(error))
            yield
            return
    with keeping_object(context, when or Checkpoints(), instance, server, runs=runs) as lines:
        metering.tell(server, context, lambda: NodeDetails(lines=tuple(lines())))
        yield


def say_loaded(context: NodeContext, checkpoint: Path) -> None:
    """Tell people which checkpoint a node begins with."""
    _say(f"{context.name} begins with {checkpoint}, {time.time() - checkpoint.stat().st_mtime:.0f} s old")


def _say(what: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"kourou: {what}", file=sys.stderr, flush=True)  # noqa: T201 - for the node's log


def folder_in_run(context: NodeContext) -> Path:
    """Where a node's checkpoints are, in the run's folder.

    Raises:
        CheckpointError: its host does not see the run's folder.
    """
    folder = Path(context.checkpoints)
    if not folder.parent.is_dir():
        raise errors.CheckpointError(
            f"{context.name} can keep no checkpoint: its host does not see the run's folder {folder.parent}; let "
            "KOUROU_RUNS_DIR, or run_dir=, be on a file system that all hosts share"
        )
    return node_checkpoints(folder, context.name)


def _keeps_state(instance: object) -> bool:
    """Whether it has ``save`` and ``load`` of its own, to be called with one argument."""
    for name in ("save", "load"):
        method = getattr(instance, name, None)
        if not callable(method) or getattr(method, "__self__", instance) is not instance:
            return False  # an alternative constructor is often called load, too
        try:
            inspect.signature(method).bind(Path())
        except (TypeError, ValueError):
            return False
    return True


class _ObjectState:
    """The state of an object with ``save`` and ``load``."""

    def __init__(
        self, context: NodeContext, when: Checkpoints, instance: Any, server: Server, folder: str | None
    ) -> None:
        self.ended = threading.Event()
        self._when = when
        self._given_folder = folder
        self._context = context
        self._instance = instance
        self._class = type(instance).__qualname__
        self._server = server

    def load(self) -> Path | None:
        """Load the latest checkpoint; None when there is none, or none is wanted."""
        context = self._context
        if context.attempt > 1 and self._when.on_restart == "fresh":
            return None
        last = self._folder().last()
        if last is None:
            return None
        say_loaded(context, last)
        try:
            self._load(last)
        except Exception as error:
            what = f"{context.name} could not load the checkpoint {last}: {described(error)}"
            raise errors.CheckpointError(what) from error
        return last

    def _load(self, checkpoint: Path) -> None:
        written_by = facts_of(checkpoint)["class"]
        if written_by != self._class:
            raise TypeError(f"it is of a {written_by}, and this is a {self._class}")
        run_user_code(self._instance.load, CheckpointFolder.files(checkpoint))

    def _folder(self) -> CheckpointFolder:
        given = self._given_folder
        return CheckpointFolder(folder_in_run(self._context) if given is None else Path(given), keep=self._when.keep)

    def write(self) -> Path:
        """Save the object.

        Raises:
            CheckpointError: ``save`` failed, or the disk is full.
            CallCancelled: the node ended before its turn came.
        """
        context = self._context
        folder = self._folder()
        facts = {
            "node": context.name,
            "class": self._class,
            "incarnation": context.incarnation,
            "attempt": context.attempt,
            "saved_at": time.time(),
        }
        try:
            return folder.write(self._save, facts)
        except errors.CallCancelled:
            raise
        except (Exception, SystemExit) as error:
            last = folder.last()
            left = f"{last.name} is the latest one still" if last else "there is none yet"
            what = f"{described(error)} (in {folder.path}; {left})"
            raise errors.CheckpointError(what) from error

    def _save(self, folder: Path) -> None:
        """As one of the node's calls, so that nobody else is in its object where that is so for calls."""
        save = self._instance.save
        if self.ended.is_set() or not self._server.has_started:
            run_user_code(save, folder)
            return
        saved = self._server.run_as_call(save, folder)
        while not wait([saved], _POLL_S).done:
            if self.ended.is_set() and saved.cancel():  # a server that stops drops what waits for a thread
                break
        try:
            saved.result()
        except CancelledError:
            raise errors.CallCancelled(f"{self._context.name} ended before its object could be saved") from None


def _clock(period_s: float | None) -> Iterator[float | None]:
    """The times of checkpoints, in ``time.monotonic()``: multiples of the period, those left out that are over."""
    if period_s is None:
        yield from itertools.repeat(None)
        return
    due = time.monotonic()
    while True:
        due += period_s * max(1, -(-(time.monotonic() - due) // period_s))
        yield due
