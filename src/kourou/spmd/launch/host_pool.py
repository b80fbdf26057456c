"""What a Launcher keeps from one run to the next: the hosts' helpers, and the runs that are under way."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any

from kourou import errors, limits, threads
from kourou.courier.wire import codec
from kourou.runtime.context.context import current_node
from kourou.runtime.files.descriptors import make_room_for_processes
from kourou.runtime.launchers.ssh.connection import SshOptions
from kourou.runtime.launchers.ssh.transport import close_all
from kourou.runtime.model.engines import EngineOptions, Shape
from kourou.runtime.stopping import exit_signals
from kourou.spmd.hosts.local import LocalHost
from kourou.spmd.hosts.places import Host
from kourou.spmd.hosts.remote import RemoteHost, host_over_ssh
from kourou.spmd.launch.job import Cancelled, Job, JobSpec, Way, WorkerHost
from kourou.spmd.launch.output import Output
from kourou.spmd.launch.results import LaunchFuture, LaunchResult
from kourou.spmd.worker import parcel

if TYPE_CHECKING:
    from kourou.spmd.hosts.allocated import Allocation

_LOOK_S = 0.1  # how often to see whether hosts are not waited for any more
_INFRASTRUCTURE = (errors.WorkerFailedError, errors.AgentFailedError)


class HostPool:
    """Owned by one Launcher, which closes it; what it needs is started by its first run. Thread-safe.

    The interpreter's exit waits for its runs, as for what was submitted to an executor, and closes it. Ctrl-C ends them
    then, and tears nothing apart when it comes again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._local: LocalHost | None = None
        self._remote: dict[tuple[str, Way], RemoteHost] = {}
        self._allocation: Allocation | None = None
        self._owner = os.getpid()
        self._numbers = itertools.count(1)
        self._submissions: set[_Submission] = set()

    @limits.told("run the ranks")
    def submit(self, spec: JobSpec, call: codec.Payload, owner: object) -> LaunchFuture[Any]:
        """Begin a run.

        Args:
            spec: what is run, where, and how.
            call: the function and its arguments.
            owner: kept until the run has ended: who drops it closes this pool.
        """
        self._enter()
        make_room_for_processes(sum(host.workers for host in spec.hosts))
        written = parcel.create()
        try:
            parcel.write(written, call)
            submission = _Submission(self, spec, written, owner)
        except BaseException:
            os.close(written)
            raise
        try:
            with self._lock:  # whoever closes the pool joins it, and the thread takes itself out
                threads.start(submission.thread)
                self._submissions.add(submission)
                exit_signals.await_at_exit(self)  # a close meanwhile may have found nothing
        except RuntimeError:  # there is no thread to be had
            os.close(written)
            raise
        except BaseException:  # Ctrl-C, and who knows whether the thread has begun
            submission.cancel()
            raise
        return submission.future

    def new_job(self, spec: JobSpec, remote: Mapping[str, RemoteHost]) -> Job:
        """A job on this pool's hosts, and on those that it was connected to."""
        with self._lock:
            return Job(f"spmd-{next(self._numbers)}", spec, lambda host: self._host_of(host, remote))

    def submission_ended(self, submission: _Submission) -> None:
        """Nothing of it is left."""
        with self._lock:
            self._submissions.discard(submission)

    def _others(self) -> list[_Submission]:
        """Those under way beside the one, if any, that this thread is in."""
        return [each for each in list(self._submissions) if each.thread is not threading.current_thread()]

    @property
    def ended(self) -> bool:
        """It has nothing that would have to be closed."""
        return not (self._submissions or self._local or self._remote or self._allocation)

    def interrupt(self, code: int, *, insist: bool) -> None:
        """At the interpreter's exit: end all workers. They have a second for it, so there is nothing to insist on."""
        del code, insist
        for submission in list(self._submissions):
            submission.cancel()

    def stop(self, reason: str) -> None:
        """Nothing, though the script failed: what was submitted is done."""

    def finish_at_exit(self) -> str | None:
        """Wait for what was submitted, and close; a failure is its future's to tell."""
        for submission in list(self._submissions):
            submission.thread.join()
        self.close()
        return None

    def close(self) -> None:
        """End what runs, then the helpers. A later run starts new ones."""
        self._reset_after_fork()
        for submission in self._others():  # or what they still connect to would be waited for
            submission.cancel()
        with self._connecting, self._lock:  # together: a run that begins after this has helpers of its own
            running, kept = self._others(), self._take_helpers()
        for submission in running:
            submission.cancel()
        for submission in running:
            submission.thread.join()
        kept.close()
        with self._lock:
            if not self._others():
                kept = self._take_helpers()  # of a run that had just begun when it was cancelled
            if self.ended:
                exit_signals.await_no_more(self)
        kept.close()

    def _take_helpers(self) -> contextlib.ExitStack:
        """All there are, for the caller to close. With the lock held."""
        kept = contextlib.ExitStack()
        if self._allocation is not None:
            kept.callback(self._allocation.release)
        kept.callback(close_all, list(self._remote.values()))
        if self._local is not None:
            kept.callback(self._local.close)
        self._local, self._remote, self._allocation = None, {}, None
        return kept

    def close_when_dropped(self) -> None:
        """As :meth:`close`, for the garbage collector.

        It may come in any thread: one that close() would wait for, or one that holds the lock.
        """
        if threading.current_thread() is threading.main_thread():
            self.close()
            return
        try:
            threads.start(threading.Thread(target=self.close, name="kourou-spmd-close"))
        except RuntimeError:  # the interpreter is ending: nobody else is about to use it
            self.close()

    def allocation(self, engine: EngineOptions, shape: Shape, timeout_s: float) -> Allocation:
        """An engine's hosts: those of earlier runs, if these had the same.

        Raises:
            LaunchError: a run has others.
        """
        from kourou.spmd.hosts.allocated import Allocation  # noqa: PLC0415 - others need none of it

        self._enter()
        with self._lock:
            have = self._allocation
            if have is not None and (have.engine, have.shape) == (engine, shape):
                return have
            if have is not None and self._others():
                raise errors.LaunchError("a run is under way on other hosts of an engine: await it first")
            gone = [self._remote.pop(key) for key in list(self._remote) if key[1] is have]
            made = self._allocation = Allocation(engine, shape, timeout_s)
        close_all(gone)
        if have is not None:
            have.release()
        return made

    def connect(
        self, names: Iterable[str], options: Way, check: Callable[[], None] = lambda: None
    ) -> dict[str, RemoteHost]:
        """Connect to an agent on each of these hosts; agents of earlier runs are used again.

        Args:
            names: of the hosts.
            options: how they are reached.
            check: called now and then; what it raises ends the waiting.

        Raises:
            AgentFailedError: one cannot be reached; none of the pool's is left then, unless a run needs it.
            LaunchError: files could not be copied to one; none of the pool's is left then either.
        """
        self._enter()
        keys = [(name, options) for name in names]
        gone: list[RemoteHost] = []
        try:
            with self._connecting:  # and not the other lock, for runs that end meanwhile
                with self._lock:
                    gone += [self._remote.pop(key) for key in keys if key in self._remote and self._remote[key].lost]
                    there = {key: self._remote[key] for key in keys if key in self._remote}
                made = _connect_all([key for key in keys if key not in there], check)
                with self._lock:
                    self._remote |= made
            hosts = {key[0]: there.get(key) or made[key] for key in keys}
            for host in hosts.values():
                host.await_ready(check)
        except BaseException:  # Ctrl-C, too
            with self._lock:
                here = [key for key in keys if key in self._remote]
                idle = not self._others()
                gone += [self._remote.pop(key) for key in here if idle or self._remote[key].lost]
            if idle and not isinstance(options, SshOptions):  # the next run gets hosts anew
                close_all(gone)
                gone.clear()
                options.release()
            raise
        finally:
            close_all(gone)
        return hosts

    def _host_of(self, host: Host, remote: Mapping[str, RemoteHost]) -> WorkerHost:
        if not host.local:
            return remote[host.name]
        if self._local is None:
            self._local = LocalHost()
        return self._local

    def _enter(self) -> None:
        """Something is about to be begun that has to be ended."""
        self._reset_after_fork()
        exit_signals.await_at_exit(self)

    def _reset_after_fork(self) -> None:
        """Start anew in a child of fork: the helpers and threads belong to the parent."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._lock = threading.Lock()
            self._connecting = threading.Lock()
            self._local = None
            self._remote = {}
            self._allocation = None
            self._submissions = set()


def _connect_all(keys: Sequence[tuple[str, Way]], check: Callable[[], None]) -> dict[tuple[str, Way], RemoteHost]:
    """Connect to hosts, to all of them at once: copying files there may take long."""
    abandoned = threading.Event()
    connecting_at_once = futures.ThreadPoolExecutor(max(1, len(keys)), "kourou-connect")
    with threads.starting("kourou-connect"), connecting_at_once as pool:
        connecting: dict[tuple[str, Way], futures.Future[RemoteHost]] = {}
        try:
            for key in keys:
                connecting[key] = pool.submit(_connect, *key, abandoned)
            left = set(connecting.values())
            while left:
                done, left = futures.wait(left, _LOOK_S, futures.FIRST_EXCEPTION)
                for future in done:
                    future.result()
                check()
            return {key: future.result() for key, future in connecting.items()}
        except BaseException:
            abandoned.set()
            futures.wait(connecting.values())
            close_all([future.result() for future in connecting.values() if future.exception() is None])
            raise


def _connect(name: str, way: Way, abandoned: threading.Event) -> RemoteHost:
    return host_over_ssh(name, way, abandoned) if isinstance(way, SshOptions) else way.connect(name, abandoned)


class _Submission:
    """A submitted call: a job, and another one for each retry."""

    def __init__(self, pool: HostPool, spec: JobSpec, call: int, owner: object) -> None:
        self.future: LaunchFuture[Any] = LaunchFuture(self.cancel)
        # Not a daemon: like an executor's, what was submitted is done even if the main thread has reached its end.
        self.thread = threading.Thread(target=self._work, name="kourou-spmd", daemon=False)
        self._pool = pool
        self._spec = spec
        self._call = call
        self._owner = owner
        self._node = current_node()
        self._lock = threading.RLock()  # Ctrl-C may cancel it in the middle of it
        self._cancelled = False
        self._stopped = False  # since the node stops that submitted it
        self._job: Job | None = None

    def cancel(self) -> None:
        """End all workers, and begin no more. Thread-safe, idempotent."""
        with self._lock:
            self._cancelled = True
            if self._job is not None:
                self._job.cancel()

    def _stop_with_node(self) -> None:
        with self._lock:
            self._stopped = not self._cancelled
        self.cancel()

    def _check(self) -> None:
        if self._cancelled:
            raise Cancelled

    def _work(self) -> None:
        try:
            with limits.told("run the ranks"), contextlib.ExitStack() as stack:
                if self._node is not None:
                    stack.enter_context(self._node.stop.watched_by(self._stop_with_node))
                spec = self._spec
                output = stack.enter_context(Output.opened(spec.handlers, spec.hosts, spec.on_output))
                result = self._attempts(output)
        except Cancelled:
            if self._stopped:
                self.future.set_exception(errors.StopRequested())
            else:
                self.future.set_cancelled()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self.future.set_exception(error)
        else:
            self.future.set_result(result)
        finally:
            os.close(self._call)
            self._pool.submission_ended(self)
            self._owner = None

    def _attempts(self, output: Output) -> LaunchResult[Any]:
        for left in range(self._spec.retries, -1, -1):
            try:
                return LaunchResult(self._attempt(output))
            except _INFRASTRUCTURE as error:
                self._check()
                if not left:
                    raise
                output.agent_line(self._spec.hosts[0].name, f"trying again, for the last {left} time(s): {error}")
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, output: Output) -> dict[str, list[Any]]:
        spec = self._spec
        remote = self._pool.connect([host.name for host in spec.hosts if not host.local], spec.way, self._check)
        job = self._pool.new_job(spec, remote)
        with self._lock:
            self._check()
            self._job = job
        return job.run(self._call, output)
