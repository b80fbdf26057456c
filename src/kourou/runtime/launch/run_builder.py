"""Putting a run together: folder, coordinator, launcher and director, and who gives back what."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou.runtime.context import context
from kourou.runtime.context.children_control import ChildServer, SharedControl, for_children
from kourou.runtime.control.coordinator import Coordinator, NodeControl
from kourou.runtime.files.descriptors import make_room_for_processes
from kourou.runtime.files.nonblocking_stream import NonBlockingStream
from kourou.runtime.files.rotation import Rotation
from kourou.runtime.files.run_folder import CERTIFICATE_FILE, CHECKPOINTS, RunFolder
from kourou.runtime.files.scratch import ScratchFolder
from kourou.runtime.launch.director import Director, ExitCallback
from kourou.runtime.launch.elastic import Elastic
from kourou.runtime.launch.folder_facts import FolderFacts
from kourou.runtime.launch.run import Run
from kourou.runtime.launchers.base import Launcher
from kourou.runtime.metrics.writing import close_files
from kourou.runtime.model.hosts import Hosts
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.node_environment import RUN_DIR_VARIABLE
from kourou.runtime.output.node_logs import MERGED_LOG, NodeLogs, Terminal, redirect_threads
from kourou.runtime.output.tmux import TMUX_SESSION, add_windows, open_session
from kourou.runtime.plan.plan import LaunchPlan, NodePlan
from kourou.runtime.stopping import exit_signals
from kourou.runtime.stopping.state import StopState
from kourou.script import names

if TYPE_CHECKING:
    from kourou.runtime.control.service import CoordinatorServer
    from kourou.runtime.graph.node import Node
    from kourou.runtime.graph.program import Program
    from kourou.runtime.host_agent.authority import Authority
    from kourou.runtime.launchers.engines.allocation import Allocation
    from kourou.runtime.launchers.hosts.transport import Reach
    from kourou.runtime.launchers.processes import ProcessLauncher
    from kourou.runtime.plan.addition import Addition, Recipe

_TOKEN_BYTES = 32


class RunBuilder:
    """Puts the parts of a run together, in the order that gets nodes started soonest."""

    def __init__(  # noqa: PLR0913 - what is there before it
        self,
        plan: LaunchPlan,
        folder: RunFolder,
        on_node_exit: ExitCallback | None,
        setups: Sequence[Callable[[], object]] = (),
        log_to: Sequence[str] = (),
        *,
        job: str = "",
        incarnation: int = 1,
        keys: tuple[str, Authority] | None = None,
        allocation: Allocation | None = None,
        processes: ProcessLauncher | None = None,
    ) -> None:
        self._processes = processes  # of this host, whose zygote starts already; None: nodes are something else
        self._allocation = allocation  # of the plan's engine, if that has it already
        self._incarnation = incarnation
        self._log_to = log_to
        self._entries: dict[str, Callable[[context.NodeContext], None]] = {}  # of nodes that are threads
        self._setups = setups  # of this process, whose children need them, too
        self._plan = plan
        self._folder = folder
        self._token = keys[0] if keys else secrets.token_hex(_TOKEN_BYTES)
        self._authority = keys[1] if keys else None
        self._certificate: bytes | None = None  # of the nodes' servers, where they are on several hosts
        self._binding: context.Binding | None = None  # of this process
        self._scratch: ScratchFolder | None = None
        self._child_server: ChildServer | None = None
        self._resources = contextlib.ExitStack()  # what the end of the run gives back, last first
        self._logs = self._make_logs()
        self._metrics_dir = os.environ.get(RUN_DIR_VARIABLE) or str(folder.path)
        self._coordinator = self._make_coordinator()
        self._facts = FolderFacts(
            plan,
            folder,
            self._coordinator,
            has_failed=lambda: bool(self._director.failures),
            metrics_dir=self._metrics_dir,
            job=job,
            incarnation=incarnation,
        )
        self._director = Director(
            plan,
            self._coordinator,
            folder=folder,
            logs=self._logs,
            on_node_exit=on_node_exit,
            on_end=self._resources.close,
        )

    def _make_coordinator(self) -> Coordinator:
        return Coordinator(
            [NodeRecord(name=node.name, serves_only=node.serves_only) for node in self._plan.nodes],
            on_change=self._record_change,
            tell_director=lambda event: self._director.tell(event),  # noqa: PLW0108 - it is made later
            on_resize=lambda *ask: self._elastic.carry_out(*ask),  # noqa: PLW0108 - likewise
        )

    def _make_logs(self) -> NodeLogs:
        return NodeLogs(
            self._folder.log_file,
            Terminal(self._output()),
            merged=self._folder.path / MERGED_LOG,
            rotation=Rotation.from_environment(),
        )

    def _output(self) -> NonBlockingStream | None:
        if self._plan.terminal != "current_terminal" or sys.stdout is None:
            return None
        output = NonBlockingStream(sys.stdout, kept_in=self._folder.path / MERGED_LOG)
        self._resources.callback(output.close)  # last of all, since it may take a moment
        return output

    def build(self, recipe: Recipe | None, undo: contextlib.ExitStack) -> Run:
        """Start everything.

        Args:
            recipe: what the plan was made of; None where it is not here, and nodes are no threads.
            undo: gives back, at its end, what was taken, unless the run has begun: then it is empty.
        """
        undo.callback(self._resources.close)
        self._resources.callback(self._folder.close)
        self._resources.callback(self._logs.close)
        self._resources.callback(close_files, self._metrics_dir)
        run, launcher = self._make_run(recipe)
        with exit_signals.beginning(run):
            if (node := context.current_node()) is not None:
                self._resources.enter_context(run.ending_with(node))
            self._director.start(launcher)
            undo.pop_all()  # the director's end gives it back
        return run

    def _make_run(self, recipe: Recipe | None) -> tuple[Run, Launcher]:
        program = recipe.program if recipe is not None else None
        make_room_for_processes(len(self._plan.nodes))
        launcher = self._launcher(program)
        if self._plan.terminal == TMUX_SESSION:
            open_session(self._folder.path, self._windows(self._plan.nodes))
        self._elastic = Elastic(
            self._plan,
            recipe,
            folder=self._folder,
            coordinator=self._coordinator,
            director=self._director,
            adopt=lambda nodes, addition: self._adopt(nodes, addition, launcher),
            let_go=lambda gone: self._let_go(gone, launcher),
        )
        self._resources.callback(self._elastic.close)
        self._resources.callback(self._entries.clear)
        self._bind(program.iterate_members() if program is not None else ())
        self._bind_this_process()
        if self._log_to:
            from kourou.runtime.metrics.export import ExportThread  # noqa: PLC0415 - others need none of it

            export = ExportThread(
                Path(self._metrics_dir), self._log_to, run=self._folder.run_id, program=self._plan.program
            )
            self._resources.callback(export.close)
        return Run(self._elastic, self._coordinator, self._director, self._folder, self._incarnation), launcher

    def _bind(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            node._run_id = self._folder.run_id  # noqa: SLF001 - the launch binds the graph to its run

    def _adopt(self, nodes: Sequence[Node], addition: Addition, launcher: Launcher) -> None:
        """Nodes come into the program that runs."""
        make_room_for_processes(len(addition.nodes))
        count = len(self._coordinator.directory.all()) + len(addition.nodes)
        self._facts.reserve(count)
        members = [member for node in nodes for member in node.iterate_family()]
        self._entries |= {str(node.name): node.run for node in members}
        with self._folder.written():
            launcher.add(addition.nodes, addition.blobs)
        if addition.scope is not names.ANYTHING:
            self._resources.callback(addition.scope.close)
            self._resources.enter_context(names.shared_with(addition.scope))
        self._bind(members)
        if self._plan.terminal == TMUX_SESSION:
            add_windows(self._folder.path, self._windows(addition.nodes))
        self._facts.note_nodes(count)

    def _windows(self, nodes: Iterable[NodePlan]) -> list[str]:
        """Who gets one: a child thread of a node's process prints where the node does, a node of processes nothing."""
        return [node.name for node in nodes if self._plan.launch_type.threads or node.process]

    def _let_go(self, gone: set[str], launcher: Launcher) -> None:
        """Nodes were removed, and have ended."""
        for name in gone & self._entries.keys():
            del self._entries[name]
        launcher.forget(gone)
        self._logs.forget(gone)

    def _record_change(self, record: NodeRecord) -> None:
        if self._binding is not None:
            self._binding.forget_if_gone(record)
        self._facts.note_record(record)

    def _launcher(self, program: Program | None) -> Launcher:
        if program is not None and self._plan.launch_type.threads:
            return self._thread_launcher(program)
        if self._plan.hosts is not None:
            return self._host_launcher(self._plan.hosts)
        return self._process_launcher()

    def _process_launcher(self) -> Launcher:
        folder, launcher = self._folder, self._processes
        assert launcher is not None  # noqa: S101 - there are no other plans
        self._resources.callback(launcher.close)
        from kourou.runtime.plan.payloads import store_blobs  # noqa: PLC0415 - likewise

        with folder.written():
            store_blobs(self._plan.blobs, folder.payloads)
        server, folder_of_sockets = self._serve(), str(self._socket_dir())
        launcher.configure(
            self._director,
            **self._facts_for_nodes(),
            coordinator=server.listen_in(folder_of_sockets),
            token_file=str(folder.token_file),
            metrics_dir=self._metrics_dir,
            payloads=str(folder.payloads),
            socket_dir=folder_of_sockets,
        )
        return launcher

    def _host_launcher(self, hosts: Hosts) -> Launcher:
        from kourou.runtime.host_agent.authority import Authority  # noqa: PLC0415 - others need none of it
        from kourou.runtime.launchers.hosts.launcher import HostLauncher  # noqa: PLC0415 - likewise

        folder, authority = self._folder, self._authority or Authority()
        host, _, port = self._serve().address.rpartition(":")
        coordinator = host, int(port)
        launcher = HostLauncher(
            self._plan,
            self._director,
            run_id=folder.run_id,
            coordinator=coordinator,
            metrics_dir=self._metrics_dir,
            reach=self._reach(hosts, authority, coordinator),
            authority=authority,
        )
        self._resources.callback(launcher.close)
        launcher.configure(self._token, **self._facts_for_nodes())
        self._certificate = authority.certificate
        (folder.path / CERTIFICATE_FILE).write_bytes(self._certificate)
        return launcher

    def _reach(self, hosts: Hosts, authority: Authority, coordinator: tuple[str, int]) -> Reach:
        if self._plan.engine is None:
            from kourou.runtime.launchers.ssh.transport import SshReach  # noqa: PLC0415 - others need none of it

            return SshReach(hosts)
        from kourou.runtime.host_agent.dial_order import DialOrder  # noqa: PLC0415 - likewise
        from kourou.runtime.launchers.engines.reach import EngineReach  # noqa: PLC0415 - likewise

        reach = EngineReach(
            self._plan,
            DialOrder(
                token=self._token,
                silence_s=self._plan.engine.lost_after_s,
                run_id=self._folder.run_id,
                idle=self._plan.idle_places,
            ),
            folder=self._folder.path,
            authority=authority,
            coordinator=coordinator,
            on_wait=self._wait_for,
            allocation=self._allocation,
        )
        self._resources.callback(reach.release)
        reach.allocate()
        return reach

    def _wait_for(self, why: str) -> None:
        self._facts.waits_for = why

    def _thread_launcher(self, program: Program) -> Launcher:
        from kourou.runtime.launchers.threads import ThreadLauncher  # noqa: PLC0415 - processes need none of it

        self._serve()
        self._resources.enter_context(redirect_threads(self._folder.run_id, self._logs))
        self._entries |= {str(node.name): node.run for node in program.iterate_members()}
        launcher = ThreadLauncher(self._entries, self._node_context, self._director, self._coordinator.report)
        self._resources.callback(launcher.close)
        return launcher

    def _node_context(self, name: str, attempt: int) -> context.NodeContext:
        control = NodeControl(coordinator=self._coordinator, origin=name, attempt=attempt)
        stop = StopState(control.request_stop)
        self._coordinator.add_stop_state(stop, name)
        shared = SharedControl(control, self._control_for_children())
        binding = context.Binding(
            run_id=self._folder.run_id, control=shared, token=self._token, metrics_dir=self._metrics_dir
        )
        self._resources.callback(binding.disconnect)
        return context.NodeContext(
            **self._facts_for_nodes(),
            name=name,
            attempt=attempt,
            binding=binding,
            stop=stop,
            report_child=lambda child, outcome: self._coordinator.report(child, attempt, outcome),
            server_options={"token": self._token, "socket_dir": str(self._socket_dir())},
        )

    def _facts_for_nodes(self) -> dict[str, Any]:
        return {
            "run_id": self._folder.run_id,
            "program": self._plan.program,
            "launch_type": str(self._plan.launch_type),
            "incarnation": self._incarnation,
            "checkpoints": str(self._folder.path / CHECKPOINTS),
        }

    def _serve(self) -> CoordinatorServer:
        """Open the coordinator's port and write run.json, by which other shells find it."""
        from kourou.runtime.control.service import CoordinatorServer  # noqa: PLC0415 - imports protobuf

        self._folder.write_token(self._token)
        server = CoordinatorServer(self._coordinator, token=self._token, status=self._facts.status)
        self._resources.callback(server.close)
        self._facts.write(server.address)
        # Called before the server closes: whoever finds it closed finds the status as well.
        self._resources.callback(self._facts.write_status)
        return server

    def _socket_dir(self) -> Path:
        """A private folder for UNIX sockets: their paths may have 107 bytes only, and a run's folder can be longer."""
        if self._scratch is None:
            self._scratch = ScratchFolder()
            self._resources.callback(self._scratch.remove)
        return self._scratch.path

    def _control_for_children(self) -> ChildServer:
        """Where children of this process ask for the program."""
        if self._child_server is None:
            control = NodeControl(coordinator=self._coordinator, origin="launcher")
            stop = StopState(control.request_stop)
            self._coordinator.add_stop_state(stop)
            self._child_server = ChildServer(control, str(self._socket_dir()), stop.event)
            self._resources.callback(self._child_server.close)
        return self._child_server

    def _bind_this_process(self) -> None:
        control = NodeControl(coordinator=self._coordinator, origin="launcher")
        stop = StopState(control.request_stop)
        self._coordinator.add_stop_state(stop)
        self._binding = context.Binding(
            run_id=self._folder.run_id,
            control=SharedControl(control, self._control_for_children()),
            token=self._token,
            tls=self._certificate,
            metrics_dir=self._metrics_dir,
        )
        self._resources.enter_context(context.live_run(self._binding, stop))
        self._resources.callback(self._plan.scope.close)
        self._resources.enter_context(names.shared_with(self._plan.scope))
        if self._plan.launch_type.threads:
            from kourou.script import children, main_module  # noqa: PLC0415 - processes need none of it

            calls = {
                "script": main_module.for_children,
                "setup": lambda: main_module.setup_for_children(self._setups),
                "program": for_children,
            }
            for what, make in calls.items():
                self._resources.enter_context(children.calling_first(what, make))
