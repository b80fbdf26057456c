"""lp.launch: compile a program and bring its plan to life."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from kourou import errors, limits
from kourou.later import importing
from kourou.runtime.context import context
from kourou.runtime.plan.launch_type import launch_type_from

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from kourou.runtime.graph.program import Program
    from kourou.runtime.graph.resources import PythonProcess
    from kourou.runtime.launch.director import ExitCallback
    from kourou.runtime.launch.run import Run
    from kourou.runtime.model.engines import EngineOptions
    from kourou.runtime.model.hosts import Host, Hosts
    from kourou.runtime.model.inventory import Inventory
    from kourou.runtime.plan.launch_type import LaunchType
    from kourou.runtime.plan.placement import PlacementOf
    from kourou.runtime.process.supervisor import Supervisor
    from kourou.runtime.stopping.timeline import StopTimeline


@limits.told("launch the program")
def launch(  # noqa: PLR0913 - Launchpad's arguments, and ours by keyword
    programs: Program | Sequence[Program],
    launch_type: LaunchType | EngineOptions | str | None = None,
    xm_resources: None = None,
    local_resources: Mapping[str, PythonProcess] | None = None,
    test_case: Any = None,
    terminal: str | None = None,
    *,
    serialize_py_nodes: bool | None = None,
    stop_timeline: StopTimeline | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    inventory: Inventory | None = None,
    on_node_exit: ExitCallback | None = None,
    hosts: Hosts | Sequence[str | Host] | None = None,
    placement: PlacementOf | None = None,
    setup: Callable[[], object] | None = None,
    log_to: Sequence[str] = (),
    resume: Run | str | os.PathLike[str] | None = None,
) -> Run:
    """Start a program and return at once.

    Args:
        programs: the program (of a sequence, as in Launchpad, the first).
        launch_type: ``local_mt`` (threads), ``local_mp`` (processes), ``test_mt``, ``test_mp``, or ``ssh`` (processes
            of several hosts), or an engine that allocates them, such as ``lp.Slurm(...)`` (which is waited for); None:
            abseil's flag ``--lp_launch_type``, else the environment variable KOUROU_LAUNCH_TYPE, else ``local_mt``.
        xm_resources: accepted for Launchpad's sake, if None.
        local_resources: label → what its processes get, instead of what its group says.
        test_case: a ``unittest.TestCase`` whose clean-up stops the program.
        terminal: ``current_terminal`` prints nodes' lines here, ``output_to_files`` only writes their logs,
            ``tmux_session`` shows each in a window of a tmux session.
        serialize_py_nodes: whether nodes that run as threads must be picklable too; None: only under ``test_mt``.
        stop_timeline: the seconds that a stopping program waits before it insists.
        run_dir: where the run's folder is made; None: KOUROU_RUNS_DIR, else below the user's state directory.
        inventory: the CPUs and GPUs to hand out; None: those that this process may use. Tests pass their own.
        on_node_exit: called with the :class:`ExitRecord` of every attempt of a node that ended, in a thread of its own.
        hosts: under ``ssh``: where nodes may run; names that ssh knows, :class:`Host` objects, or :class:`Hosts`.
        placement: under ``ssh`` and engines: label → a host; several hosts, of which each node takes one; or a mapping
            of hosts to how many of the label's processes each gets. Other labels go where there is most room. An
            engine's hosts are whatever is named here.
        setup: called in each process before its node is unpickled: what the script sets up at its top, which is not
            run again in nodes (environments that are registered, logging, torch's defaults). A label's own
            (``local_resources``) is called after it.
        log_to: where ``lp.log``'s metrics go beside the run's folder: ``tensorboard``, ``wandb``, ``mlflow``.
        resume: a run of this program that has ended, its id or its folder. It goes on there, under its name: nodes load
            the latest checkpoints that they left.

    Raises:
        PlanError: the program has mistakes, or its nodes are not those of the run that it resumes; nothing was started.
        NotFound: there is no run to be resumed of that name.
        LaunchError: the run's folder cannot be made, or there is no tmux; under ``ssh``, no rsync.
        AgentFailedError: a host cannot be reached, with ssh's own words; nothing is left on the others.
        MissingExtra: ``tmux_session`` needs the extra ``tmux``, and ``log_to`` that of its name.
    """
    context.check_launch()
    with contextlib.ExitStack() as undo:
        supervisor = _supervisor_ahead(launch_type, undo)
        with importing():  # while a zygote imports what nodes need
            from kourou.runtime.launch import launching  # noqa: PLC0415 - see above
            from kourou.runtime.launch.resuming import find_resumed  # noqa: PLC0415 - likewise
        exporters = launching.exporters_of(log_to)
        program = launching.the_program(programs, xm_resources)
        resumed = find_resumed(resume, program.name, run_dir)
        plan, recipe = launching.compiled(
            program,
            launch_type,
            local_resources=local_resources,
            terminal=terminal,
            stop=stop_timeline,
            hosts=hosts,
            placement=placement,
            serialize_py_nodes=serialize_py_nodes,
            inventory=inventory,
            setup=setup,
        )
        setups = launching.set_up(plan, setup, *recipe.resources.values())
        if resumed is not None:
            resumed.check(plan)
        with importing():
            run = launching.build_run(
                plan, recipe, resumed, run_dir, on_node_exit, setups, exporters, supervisor=supervisor, undo=undo
            )
    if test_case is not None:
        test_case.addCleanup(run.stop)
    return run


def _supervisor_ahead(
    launch_type: LaunchType | EngineOptions | str | None, undo: contextlib.ExitStack
) -> Supervisor | None:
    """Of nodes that will be processes of this host: it starts what they are forked from before anything else is done.

    ``undo`` ends it.
    """
    try:
        kind = launch_type_from(launch_type)
    except errors.PlanError:  # which compiling raises
        return None
    if kind.threads or kind.hosts:
        return None
    with importing():
        from kourou.runtime.process.supervisor import Supervisor  # noqa: PLC0415 - others need none of it

    supervisor = Supervisor()
    undo.callback(supervisor.close)
    supervisor.start_ahead()
    return supervisor
