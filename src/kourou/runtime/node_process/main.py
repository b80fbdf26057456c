"""A node's life in a process of its own: attach to the coordinator, unpickle the node, run it, tell how it ended."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import signal
import sys
import threading
import time
from typing import Any

from kourou import courier, errors  # noqa: F401 - preloaded by the zygote, so that forked nodes find it imported
from kourou.courier import server as _server  # noqa: F401 - preloaded by the zygote
from kourou.courier.core.endpoint import host_id
from kourou.ownership import read_own
from kourou.runtime.context import context
from kourou.runtime.context.children_control import ChildServer, SharedControl, for_children
from kourou.runtime.control.client import CoordinatorClient
from kourou.runtime.interpreter import startup
from kourou.runtime.interpreter.signal_handlers import SignalHandlers, ignore_signal
from kourou.runtime.interpreter.thread_interrupts import interrupt_here
from kourou.runtime.model.process import Payload
from kourou.runtime.model.records import INTERRUPT, Outcome
from kourou.runtime.node_environment import owner_variables
from kourou.runtime.node_process.certificate import Certificate
from kourou.runtime.node_process.outcomes import run_to_outcome
from kourou.runtime.plan import absl_flags
from kourou.runtime.plan.payloads import load_payload, script_of
from kourou.runtime.stopping import exit_signals
from kourou.runtime.stopping.state import StopState
from kourou.script import children, main_module

# What each node would find out when it looks for an address, says where it is and checks a hash, its zygote knows
# before it forks.
host_id()
hashlib.sha256()
for _codec in ("ascii", "idna"):
    codecs.lookup(_codec)

_STOP_FOLLOWS_S = 2.0  # a SIGTERM that the launcher got as well: until its stop is heard of here
_POLL_S = 0.01
_ORPHAN_S = 2.0  # the coordinator is gone: time for the node's own clean-up before the process ends itself


def run(boot: dict[str, Any]) -> int:
    """Be the node that ``boot`` describes, in the main thread of this process; its exit code."""
    no_terminal = f"{boot['name']} has no terminal: launch with local_mt to debug it, or to type"
    startup.prepare(boot["argv"], boot["path"], no_terminal=no_terminal)
    process = _NodeProcess(boot)
    outcome = process.run()
    return _finish(process, outcome)


class _NodeProcess:
    def __init__(self, boot: dict[str, Any]) -> None:
        self._boot = boot
        self.name = boot["name"]
        token = read_own(boot["token_file"]).decode("ascii")
        self.control = CoordinatorClient(
            boot["coordinator"],
            token=token,
            name=self.name,
            attempt=boot["attempt"],
            on_stop=self._on_stop,
            on_release=self._on_release,
            on_lost=self._on_lost,
            on_record=lambda record: self._binding.forget_if_gone(record),  # noqa: PLW0108 - it is made below
        )
        self._stop = StopState(self.control.request_stop, interrupt_start=_interrupt_main_thread)
        self._interrupted = False
        self._interrupt_pending = False
        self._done = False
        tls, network = _network(boot.get("network"))
        shared = SharedControl(self.control, ChildServer(self.control, boot["socket_dir"], self._stop.event))
        self._binding = context.Binding(
            run_id=boot["run_id"], control=shared, token=token, tls=tls, metrics_dir=boot["metrics_dir"]
        )
        os.environ.update(owner_variables(self.name, boot["metrics_dir"]))
        children.call_first("program", for_children)
        self._context = context.NodeContext(
            name=self.name,
            program=boot["program"],
            run_id=boot["run_id"],
            launch_type=boot["launch_type"],
            attempt=boot["attempt"],
            incarnation=boot["incarnation"],
            checkpoints=boot["checkpoints"],
            binding=self._binding,
            stop=self._stop,
            report_child=self.control.report,
            server_options={"token": token, "socket_dir": boot["socket_dir"], **network},
        )

    def run(self) -> Outcome:
        """Run the node; how it ended, in its own words."""
        handlers = SignalHandlers()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in this process's forks
        handlers.set(signal.SIGINT, ignore_signal)  # Ctrl-C is the launcher's to hear; it stops the nodes
        handlers.set(INTERRUPT, self._on_interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            handlers.set(number, self._on_terminate)
        context.set_process_node(self._context)
        try:
            outcome = run_to_outcome(self._run, self._context)
            self._done = True
        except errors.StopRequested:  # it came when the node had just ended
            outcome = Outcome(kind="stopped")
        self._done = True  # what is left to do is ours, and needs no exception
        return outcome

    def _run(self, node_context: context.NodeContext) -> Any:
        self.control.attach()
        if self._stop.event.is_set():
            raise errors.StopRequested
        with context.no_launch(f"the process of {self.name} imports its code"):
            payload, folder = Payload(**self._boot["payload"]), self._boot["payloads"]
            main_module.install(*script_of(payload, folder))
            node = load_payload(payload, folder)
        if node.polls_while_starting:
            self._stop.begin()
        absl_flags.parse(sys.argv, self._boot["launch_type"])
        return node.run(node_context)

    def report(self, outcome: Outcome) -> None:
        """Tell the coordinator; the process exits next."""
        with contextlib.suppress(errors.RpcError):
            self.control.report(self.name, outcome)
        self.control.close()

    def _on_lost(self) -> None:
        """The coordinator is gone, and with it the program: this process must not outlive it."""
        if self._done:
            return
        print(f"kourou: {self.name} lost its coordinator and ends", file=sys.stderr)  # noqa: T201
        self._stop.release()
        _interrupt_main_thread()
        time.sleep(_ORPHAN_S)
        os._exit(1)

    def _on_stop(self) -> None:
        self._stop.set()
        self._catch_up()

    def _on_release(self, removed: str) -> None:
        self._stop.release(removed)
        self._catch_up()

    def _catch_up(self) -> None:
        if self._interrupt_pending:
            _interrupt_main_thread()

    def _on_interrupt(self, *_: object) -> None:
        if not self._stop.event.is_set():
            self._interrupt_pending = True  # the signal overtook the broadcast
        if self._stop.event.is_set() and not self._interrupted and not self._done:
            self._interrupted = True
            interrupt_here()

    def _on_terminate(self, number: int, _frame: object) -> None:
        """The stop's own; or it went to all processes, as Slurm, systemd and Docker send it, and a stop follows."""
        deadline = time.monotonic() + _STOP_FOLLOWS_S
        while not self._stop.event.is_set() and not self._done:  # its wait() has a lock, which what runs here may hold
            if time.monotonic() >= deadline:
                raise SystemExit(128 + number)
            time.sleep(_POLL_S)
        if self._interrupted and not self._done:
            interrupt_here()


def _interrupt_main_thread() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)


def _network(told: dict[str, str] | None) -> tuple[bytes | None, dict[str, Any]]:
    """Whom to trust on the way to other hosts, and how this node's server listens there."""
    if told is None:
        return None, {}
    identity = Certificate(certificate=told["certificate"].encode(), key=told["key"].encode())
    return told["authority"].encode(), {"host": told["host"], "tls": identity.make_context()}


def _finish(process: _NodeProcess, outcome: Outcome) -> int:
    if outcome.kind == "finished":
        exit_signals.wait_for_runs()  # they end with the program, which is heard until the report
    else:
        exit_signals.end_with(f"{process.name}, which launched it, has {outcome.kind}")
    process.report(outcome)
    with startup.leaving(process.name, outcome.code):
        startup.finish()
    return outcome.code
