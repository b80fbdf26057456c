"""lp.launch: compile a program and bring its plan to life."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from kourou import errors
from kourou.later import importing
from kourou.runtime.context import context
from kourou.runtime.files.descriptors import make_room_for_nodes
from kourou.runtime.files.run_folder import RunFolder, new_run_id
from kourou.runtime.graph.program import Program
from kourou.runtime.graph.resources import PythonProcess, Resources
from kourou.runtime.launch.resuming import Resumed, find_resumed
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.output.tmux import TMUX_SESSION, check_tmux
from kourou.runtime.plan.addition import Recipe
from kourou.runtime.plan.compile import compile_program, launch_type_from, setups_of
from kourou.runtime.plan.placement import PlacementOf
from kourou.runtime.plan.plan import LaunchPlan, LaunchType
from kourou.runtime.stopping.timeline import StopTimeline
from kourou.shown import shown

if TYPE_CHECKING:
    from kourou.runtime.launch.exit_callbacks import ExitCallback
    from kourou.runtime.launch.run import Run
    from kourou.runtime.launchers.processes import ProcessLauncher


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
    exporters = _exporters(log_to)
    program = the_program(programs)
    resumed = find_resumed(resume, program.name, run_dir)
    if xm_resources is not None:
        raise errors.PlanError("xm_resources belongs to XManager, which kourou does not use: leave it out")
    resources = program.resources(local_resources)
    made_with: dict[str, Any] = {"serialize_py_nodes": serialize_py_nodes, "inventory": inventory, "setup": setup}
    plan = compile_program(
        program,
        launch_type,
        local_resources=resources,
        terminal=terminal,
        stop=stop_timeline,
        hosts=hosts_to_plan_for(launch_type, hosts, resources),
        placement=placement,
        **made_with,
    )
    setups = setups_of(setup, *resources.values()) if plan.launch_type.threads else ()
    for function in setups:
        function()
    if plan.terminal == TMUX_SESSION:
        check_tmux()
    if resumed is not None:
        resumed.check(plan)
    recipe = Recipe(program=program, resources=resources, placement=placement or {}, **made_with)
    with importing():
        run = _build(plan, recipe, resumed, run_dir, on_node_exit, setups, exporters)
    if test_case is not None:
        test_case.addCleanup(run.stop)
    return run


def _exporters(log_to: str | Sequence[str]) -> Sequence[str]:
    names = [log_to] if isinstance(log_to, str) else log_to
    if names:
        from kourou.runtime.metrics.exporters import check_exporters  # noqa: PLC0415 - others need none of it

        check_exporters(names)
    return names


def _build(
    plan: LaunchPlan,
    recipe: Recipe,
    resumed: Resumed | None,
    run_dir: str | os.PathLike[str] | None,
    on_node_exit: ExitCallback | None,
    setups: Sequence[Callable[[], object]],
    log_to: Sequence[str],
) -> Run:
    if resumed is None:
        folder, incarnation = RunFolder(new_run_id(plan.program), run_dir), 1
    else:
        path, incarnation = resumed.found.path, resumed.incarnation
        folder = RunFolder(path.name, path.parent, again=True)
    processes = _processes(plan, folder)
    # While their zygote imports what nodes need, this process imports what directs a run.
    from kourou.runtime.launch.run_builder import RunBuilder  # noqa: PLC0415 - see above

    try:
        builder = RunBuilder(plan, folder, on_node_exit, setups, log_to, incarnation=incarnation, processes=processes)
        return builder.build(recipe)
    except BaseException:
        if processes is not None:
            processes.close()
        raise


def _processes(plan: LaunchPlan, folder: RunFolder) -> ProcessLauncher | None:
    """The launcher of nodes that are processes of this host."""
    if plan.launch_type.threads or plan.hosts is not None:
        return None
    from kourou.runtime.launchers.processes import ProcessLauncher  # noqa: PLC0415 - others need none of it

    make_room_for_nodes(len(plan.nodes))  # which a zygote and its nodes inherit
    return ProcessLauncher(plan, run_id=folder.run_id, folder=folder.path)


def hosts_to_plan_for(
    launch_type: LaunchType | EngineOptions | str | None,
    hosts: Hosts | Sequence[str | Host] | None,
    resources: Mapping[str, PythonProcess] | None,
) -> Hosts | Sequence[str | Host] | None:
    """The hosts, with what they have where somebody asks for CPUs or GPUs and a host does not say. They are asked then.

    Raises:
        AgentFailedError: one cannot be reached.
    """
    claims = [(r.cpus, r.gpus) for r in (resources or {}).values() if isinstance(r, Resources)]
    asked = any(claim != (None, None) for claim in claims)
    if hosts is None or not asked or launch_type_from(launch_type) is not LaunchType.SSH:
        return hosts
    from kourou.runtime.launchers.ssh.inventory import with_inventories  # noqa: PLC0415 - others need none of it

    return with_inventories(Hosts.of(hosts))


def the_program(programs: Any) -> Program:
    """The program of ``lp.launch``'s first argument.

    Raises:
        PlanError: it is none.
    """
    if isinstance(programs, Program):
        return programs
    if isinstance(programs, Sequence) and programs and all(isinstance(p, Program) for p in programs):
        return cast("Program", programs[0])
    raise errors.PlanError(f"lp.launch takes an lp.Program, got {shown(programs)}")
