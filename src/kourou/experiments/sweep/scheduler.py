"""The scheduler of a sweep on this host: gives runs to slots as these fall free, and journals all that happens.

One thread, the caller's, owns the state. The supervisor, signals and requests from other shells only put events into
its queue. A run is journalled as started before its process exists, and as ended before its slot is used again.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import heapq
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kourou.experiments.journal.journal import Journal
from kourou.experiments.journal.requests import Request, take_requests
from kourou.experiments.journal.run_folder import EXIT_FILE, RunLogs, own_folder, write_json, write_whole
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.results.results import RUN_FILE
from kourou.experiments.sweep.attempts import Attempt
from kourou.experiments.sweep.outcomes import AttemptOutcome, classify_exit, state_after
from kourou.experiments.sweep.prepared import PAYLOAD_FILE, PreparedRun, process_spec
from kourou.experiments.sweep.provenance import Provenance
from kourou.experiments.sweep.retries import Retry
from kourou.experiments.sweep.signals import signals_to
from kourou.experiments.sweep.slots import Slot, SlotPool
from kourou.limits import with_remedy
from kourou.runtime.files.descriptors import make_room_for_processes
from kourou.runtime.files.log_writer import LogWriter
from kourou.runtime.files.rotation import Rotation
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.model.records import ProcessExit, describe_signal
from kourou.runtime.plan.preloading import choose
from kourou.runtime.process.preload import COMMANDS, Preload
from kourou.runtime.process.supervisor import ProcessEvents, Supervisor
from kourou.runtime.waiting.event_queue import next_of

_POLL_S = 0.2  # between polls for requests from other shells


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """How runs are treated."""

    retry: Retry = dataclasses.field(default_factory=Retry)
    time_limit_s: float | None = None
    """Seconds that one attempt may take, from the start of its process; None: no limit."""
    fail_fast: bool = False
    """End the sweep with the first run that has failed for good."""
    pause_s: float = 0.0
    """Seconds between the starts of two runs, as Sample Factory's --pause_between. It delays nothing else."""
    interrupt_s: float = 10.0
    """Seconds between SIGINT, which lets a run save its work, and SIGTERM."""
    terminate_s: float = 2.0
    """Seconds between SIGTERM and SIGKILL."""
    preload: tuple[str, ...] | None = None
    """Modules that functions and programs find imported already, such as ``("torch",)``, if they can be forked. None:
    those of NumPy, torch and gymnasium that several of them import anyway."""
    rotation: Rotation = dataclasses.field(default_factory=Rotation.from_environment)
    """How runs' logs are rotated; as KOUROU_LOG_MAX_BYTES and KOUROU_LOG_BACKUP_COUNT say where this is made."""


class Scheduler(ProcessEvents):
    """Runs what it is given, until all have ended or somebody stops it.

    Args:
        provenance: makes what is written to each run's folder; called while the first processes are prepared.
        takes_requests: whether requests from other shells are for this scheduler.
        make_supervisor: makes what starts the runs and reports how they end, called as :class:`Supervisor` is; another
            one forks this process, or makes threads of it.
    """

    def __init__(  # noqa: PLR0913 - the parts that a launch puts together
        self,
        folder: Path,
        journal: Journal,
        runs: Sequence[PreparedRun],
        slots: SlotPool,
        options: SweepOptions,
        *,
        launch_id: str,
        provenance: Callable[[], Provenance],
        adapt: Callable[[ProcessSpec, PreparedRun, Slot], ProcessSpec] | None = None,
        on_change: Callable[[RunRecord], None] | None = None,
        takes_requests: bool = True,
        make_supervisor: Callable[..., Any] = Supervisor,
    ) -> None:
        self._make_supervisor = make_supervisor
        self._takes_requests = takes_requests
        self._folder = folder
        self._journal = journal
        self._runs = {run.run_id: run for run in runs}
        self._slots = slots
        self._options = options
        self._launch_id = launch_id
        self._logs = LogWriter(options.rotation)
        self._make_provenance = provenance
        self._adapt = adapt or (lambda spec, _run, _slot: spec)
        self._on_change = on_change or (lambda _: None)
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._pending = collections.deque(self._runs)
        self._delayed: list[tuple[float, str]] = []  # heap of (unix time, run id): retries that wait
        self._running: dict[str, Attempt] = {}
        self._waiting = ""  # the run that was reported as waiting
        self._next_start = 0.0
        self._next_poll = 0.0
        self.checkpointed: set[str] = set()
        """Runs that were told by :meth:`checkpoint` to save their work, and ended."""
        self.stopped = ""
        """Why the scheduler ended before its runs had: "interrupted" or "fail-fast"; empty otherwise."""

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            SweepError: the journal cannot be written; what ran was killed.
        """
        make_room_for_processes(min(len(self._runs), self._slots.size))
        payloads = any(run.payload is not None for run in self._runs.values())
        self._preload = choose({name: run.imports for name, run in self._runs.items()}, restarting=())
        if (given := self._options.preload) is not None:
            self._preload = dict.fromkeys(self._runs, given)
        preload = Preload(modules=("kourou.experiments.sweep.run_process", "cloudpickle")) if payloads else COMMANDS
        handler = self._make_supervisor(self, run_id=self._launch_id, folder=self._folder, preload=preload)
        self._slots.ask_host = getattr(handler, "refusal", self._slots.ask_host)
        with handler as self._supervisor, signals_to(self._on_signal):
            if not any(self._preload.values()):  # else the first run's own variables decide what is prepared
                self._supervisor.prepare()
            self._provenance = self._make_provenance()
            with contextlib.suppress(OSError):
                self._provenance.save_diff(self._folder)
            try:
                while self._has_work():
                    self._start_pending()
                    self._handle_events()
                    self._tick()
            finally:
                self._logs.close()
        for log in self._folder.glob("zygote-*.log"):
            with contextlib.suppress(OSError):  # another job of the same sweep was quicker
                if not log.stat().st_size:  # it had nothing to say
                    log.unlink()

    def checkpoint(self, number: int, wait_s: float) -> None:
        """Tell all runs by a signal to save their work and end; not later than ``wait_s`` seconds from now they do.

        May be called from a signal handler. Nothing is started any more.
        """
        self._events.put(lambda: self._checkpoint(number, wait_s))

    # -- events of the supervisor, in its thread -----------------------------------------------------------------

    def on_started(self, name: str, attempt: int, pid: int) -> None:
        del attempt
        self._events.put(lambda: self._on_pid(name, pid))

    def on_line(self, name: str, line: str, stream: str) -> None:
        live = self._running.get(name)
        if live is not None:
            live.logs.write(line, stream)

    def on_exited(self, name: str, attempt: int, exit: ProcessExit) -> None:  # noqa: A002 - it is an exit
        del attempt
        self._events.put(lambda: self._on_exit(self._running.pop(name), exit))

    # -- the loop -----------------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        return bool(self._running or ((self._pending or self._delayed) and not self.stopped))

    def _start_pending(self) -> None:
        now = time.time()
        while self._delayed and self._delayed[0][0] <= now:
            self._pending.append(heapq.heappop(self._delayed)[1])
        begun = []
        while self._pending and self._slots.has_room and not self.stopped and time.monotonic() >= self._next_start:
            live = self._prepare_attempt(self._runs[self._pending.popleft()])
            if live is not None:
                begun.append(live)
                self._next_start = time.monotonic() + self._options.pause_s
        self._report_waiting()
        self._journal.commit()  # it says that they run before they do
        for live in begun:
            spec, boot = process_spec(live.run, live.slot, live.number, self._folder)
            if live.run.payload is not None:
                spec = dataclasses.replace(spec, preload=self._preload[live.run.run_id])
            where = () if live.slot.host is None else (live.slot.host,)
            self._supervisor.start(self._adapt(spec, live.run, live.slot), live.number, boot, *where)

    def _report_waiting(self) -> None:
        """Report, once for each run, that it is not started although a slot is free."""
        if self._pending and not self.stopped and self._pending[0] != self._waiting and (why := self._slots.refusal):
            self._waiting = self._pending[0]
            self._record("waiting", self._runs[self._waiting], cause=why)

    def _prepare_attempt(self, run: PreparedRun) -> Attempt | None:
        record = self._journal.records[run.run_id]
        if record.not_before > time.time():
            heapq.heappush(self._delayed, (record.not_before, run.run_id))
            return None
        slot = self._slots.acquire()
        attempt = record.attempt + 1
        self._record("started", run, attempt=attempt, slot=slot.index, gpus=slot.gpus, host=self._host_of(slot))
        try:
            logs = self._prepare_folder(run, slot, attempt)
        except OSError as error:
            self._slots.release(slot)
            why = f"cannot use the run's folder: {with_remedy(error)}"
            self._finish_attempt(run, AttemptOutcome(ok=False, cause="start", message=why))
            return None
        live = Attempt(run, slot, attempt, logs, self._options.time_limit_s)
        self._running[run.run_id] = live
        return live

    def _host_of(self, slot: Slot) -> str:
        return str(self._provenance.facts["host"] if slot.host is None else self._supervisor.shown(slot.host))

    def _prepare_folder(self, run: PreparedRun, slot: Slot, attempt: int) -> RunLogs:
        """Make the run's folder, and write down what is about to be started."""
        own_folder(run.folder)
        (run.folder / EXIT_FILE).unlink(missing_ok=True)
        if run.payload is not None:
            write_whole(run.folder / PAYLOAD_FILE, run.payload)
        env = run.environment(slot, attempt, self._folder)
        facts: dict[str, Any] = {
            **run.record,
            "run_id": run.run_id,
            "argv": list(run.argv),
            "env": Provenance.of_environment(env),
            "attempt": attempt,
            "slot": slot.index,
            "gpus": slot.gpus,
            "cpus": slot.cpus,
            "started_at": time.time(),
            **self._provenance.facts,
            "host": self._host_of(slot),
        }
        write_json(run.folder / RUN_FILE, facts)
        return RunLogs(run.folder, self._logs)

    def _handle_events(self) -> None:
        """Wait for an event, or for the next thing that is due, and take all that there are."""
        now, wall = time.monotonic(), time.time()
        due = [self._next_poll, *(live.deadline for live in self._running.values())]
        if self._delayed:
            due.append(now + self._delayed[0][0] - wall)
        if self._pending and self._slots.has_room and not self.stopped:
            due.append(self._next_start)
        with contextlib.suppress(queue.Empty):
            next_of(self._events, min(due) - now)()
            while True:
                self._events.get_nowait()()

    def _tick(self) -> None:
        now = time.monotonic()
        for live in self._running.values():
            if now >= live.deadline:
                if not live.stop_reason:
                    live.stop("timeout", [(signal.SIGTERM, self._options.terminate_s)])
                self._send_signal(live, live.next_signal())
        if now >= self._next_poll:
            self._next_poll = now + _POLL_S
            for request in take_requests(self._folder) if self._takes_requests else ():
                self._handle_request(request)
        self._journal.commit()

    # -- ends ---------------------------------------------------------------------------------------------------

    def _on_pid(self, run_id: str, pid: int) -> None:
        live = self._running.get(run_id)
        if live is not None:
            live.started(pid)
            self._record("running", live.run, pid=pid)

    def _on_exit(self, live: Attempt, end: ProcessExit) -> None:
        self._slots.release(live.slot)
        live.logs.close()
        timed_out = self._options.time_limit_s if live.stop_reason == "timeout" else None
        outcome = classify_exit(end, timed_out_after_s=timed_out)
        state, message = state_after(live.stop_reason, outcome)
        if live.run.payload is not None:
            with contextlib.suppress(OSError):
                (live.run.folder / PAYLOAD_FILE).unlink()
        self._finish_attempt(live.run, dataclasses.replace(outcome, message=message), state=state, end=end)

    def _finish_attempt(
        self,
        run: PreparedRun,
        outcome: AttemptOutcome,
        *,
        state: RunState = RunState.FAILED,
        end: ProcessExit | None = None,
    ) -> None:
        """Record how an attempt ended, and decide on another one."""
        said = () if end is None or state is RunState.SUCCEEDED else end.last_lines
        facts: dict[str, Any] = {"state": str(state), "cause": outcome.message, "last_lines": said}
        if end is not None:
            facts |= {"code": end.code, "signal": describe_signal(end.signal) if end.signal else None}
        record = self._record("ended", run, **facts)
        may_retry = state.failed and not self.stopped
        delay_s = self._options.retry.delay_s(outcome.cause, record.retries) if may_retry else None
        not_before = None if delay_s is None else time.time() + delay_s
        with contextlib.suppress(OSError):
            whole = {**facts, "attempt": record.attempt, "host": record.host, "retried_at": not_before}
            times = {"started_at": record.started_at, "ended_at": record.ended_at, "duration_s": record.duration_s}
            write_json(run.folder / EXIT_FILE, {**whole, **times})
        if not_before is not None:
            self._record("retrying", run, cause=outcome.cause, not_before=not_before)
            heapq.heappush(self._delayed, (not_before, run.run_id))
        elif may_retry and self._options.fail_fast:
            self._stop_all("fail-fast")

    def _record(self, kind: str, run: PreparedRun, **data: Any) -> RunRecord:
        record = self._journal.append(kind, run.run_id, **data)
        self._on_change(record)
        return record

    # -- stopping -----------------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        """In the main thread, between any two of its instructions. Only Ctrl-C kills when it comes again."""
        insist = number == signal.SIGINT
        self._events.put(lambda: self._on_interrupt(insist=insist))

    def _on_interrupt(self, *, insist: bool = True) -> None:
        if self.stopped != "interrupted":
            self._stop_all("interrupted")
            return
        for live in self._running.values() if insist else ():  # again: at once
            live.stop(live.stop_reason, [])

    def _stop_all(self, why: str) -> None:
        self.stopped = why
        for live in self._running.values():
            self._stop_attempt(live, "interrupted")

    def _checkpoint(self, number: int, wait_s: float) -> None:
        self.stopped = self.stopped or "checkpoint"
        for live in self._running.values():
            if not live.stop_reason:
                live.stop("checkpoint", [(number, wait_s), (signal.SIGTERM, self._options.terminate_s)])
                self.checkpointed.add(live.run.run_id)

    def _stop_attempt(self, live: Attempt, why: str) -> None:
        if not live.stop_reason:
            options = self._options
            live.stop(why, [(signal.SIGINT, options.interrupt_s), (signal.SIGTERM, options.terminate_s)])

    def _send_signal(self, live: Attempt, number: int) -> None:
        if number in {signal.SIGTERM, signal.SIGKILL} or (live.slot.host is not None and live.pid is not None):
            self._supervisor.signal(live.run.run_id, number)
        elif live.pid is None:
            live.deadline = time.monotonic()  # it has barely begun: nothing to save
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                _signal_group(live.pid, number)

    def _handle_request(self, request: Request) -> None:
        chosen = list(self._runs) if request.runs is None else [r for r in request.runs if r in self._runs]
        if request.kind == "stop":
            self._on_interrupt()
        elif request.kind == "cancel":
            for run_id in chosen:
                self._cancel(run_id)
        elif request.kind == "retry":
            for run_id in chosen:
                if self._journal.records[run_id].state.ended:
                    self._record("rerun", self._runs[run_id])
                    self._pending.append(run_id)

    def _cancel(self, run_id: str) -> None:
        live = self._running.get(run_id)
        if live is not None:
            self._stop_attempt(live, "cancelled")
            return
        if run_id in self._pending:
            self._pending.remove(run_id)
        elif any(waiting == run_id for _, waiting in self._delayed):
            self._delayed = [entry for entry in self._delayed if entry[1] != run_id]
            heapq.heapify(self._delayed)
        else:
            return  # it has ended
        self._record("ended", self._runs[run_id], state=str(RunState.CANCELLED), cause="cancelled before it began")


def _signal_group(leader: int, number: int) -> None:
    """Signal as a terminal does: what has a session of its own is its parent's to stop."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:  # it was forked just now and leads no group yet; it takes the signal when it does
        os.kill(leader, number)
