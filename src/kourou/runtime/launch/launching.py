"""The steps of lp.launch after what nodes are forked from has been started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from kourou import errors
from kourou.runtime.files.descriptors import make_room_for_processes
from kourou.runtime.files.run_folder import RunFolder, new_run_id
from kourou.runtime.graph.program import Program
from kourou.runtime.graph.resources import PythonProcess, Resources
from kourou.runtime.launch.resuming import Resumed
from kourou.runtime.model.engines import EngineOptions
from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.output.tmux import TMUX_SESSION, check_tmux
from kourou.runtime.plan.addition import Recipe
from kourou.runtime.plan.compile import compile_program, setups_of
from kourou.runtime.plan.launch_type import LaunchType, launch_type_from
from kourou.runtime.plan.plan import LaunchPlan
from kourou.shown import shown

if TYPE_CHECKING:
    from kourou.runtime.launch.director import ExitCallback
    from kourou.runtime.launch.run import Run
    from kourou.runtime.plan.placement import PlacementOf
    from kourou.runtime.process.supervisor import Supervisor
    from kourou.runtime.stopping.timeline import StopTimeline


def exporters_of(log_to: str | Sequence[str]) -> Sequence[str]:
    """Where metrics go beside the run's folder.

    Raises:
        MissingExtra: one of them is not installed.
    """
    names = [log_to] if isinstance(log_to, str) else log_to
    if names:
        from kourou.runtime.metrics.exporters import check_exporters  # noqa: PLC0415 - others need none of it

        check_exporters(names)
    return names


def compiled(
    program: Program,
    launch_type: LaunchType | EngineOptions | str | None,
    *,
    local_resources: Mapping[str, PythonProcess] | None,
    terminal: str | None,
    stop: StopTimeline | None,
    hosts: Hosts | Sequence[str | Host] | None,
    placement: PlacementOf | None,
    **made_with: Any,
) -> tuple[LaunchPlan, Recipe]:
    """The program's plan, and what nodes that are added later are planned with. ``made_with`` is for both.

    Raises:
        PlanError: the program has mistakes.
        AgentFailedError: see :func:`hosts_to_plan_for`.
    """
    resources = program.resources(local_resources)
    plan = compile_program(
        program,
        launch_type,
        local_resources=resources,
        terminal=terminal,
        stop=stop,
        hosts=hosts_to_plan_for(launch_type, hosts, resources),
        placement=placement,
        **made_with,
    )
    return plan, Recipe(program=program, resources=resources, placement=placement or {}, **made_with)


def set_up(plan: LaunchPlan, *sources: Callable[[], object] | PythonProcess | None) -> Sequence[Callable[[], object]]:
    """Do what has to be done in this process before there are nodes; what was called, where nodes are threads of it."""
    setups = setups_of(*sources) if plan.launch_type.threads else ()
    for function in setups:
        function()
    if plan.terminal == TMUX_SESSION:
        check_tmux()
    return setups


def build_run(  # noqa: PLR0913 - what is there before it
    plan: LaunchPlan,
    recipe: Recipe,
    resumed: Resumed | None,
    run_dir: str | os.PathLike[str] | None,
    on_node_exit: ExitCallback | None,
    setups: Sequence[Callable[[], object]],
    log_to: Sequence[str],
    *,
    supervisor: Supervisor | None,
    undo: contextlib.ExitStack,
) -> Run:
    """Make the run's folder, and start everything; from then on ``undo`` is empty, and the supervisor the run's."""
    if resumed is None:
        folder, incarnation = RunFolder(new_run_id(plan.program), run_dir), 1
    else:
        path, incarnation = resumed.found.path, resumed.incarnation
        folder = RunFolder(path.name, path.parent, again=True)
    processes = None
    if supervisor is not None:
        from kourou.runtime.launchers.processes import ProcessLauncher  # noqa: PLC0415 - others need none of it

        make_room_for_processes(len(plan.nodes))  # which a zygote is told, and its nodes inherit
        processes = ProcessLauncher(plan, supervisor, run_id=folder.run_id, folder=folder.path)
    # While their zygote imports what nodes need, this process imports what directs a run.
    from kourou.runtime.launch.run_builder import RunBuilder  # noqa: PLC0415 - see above

    builder = RunBuilder(plan, folder, on_node_exit, setups, log_to, incarnation=incarnation, processes=processes)
    return builder.build(recipe, undo)


def the_program(programs: Any, xm_resources: object = None) -> Program:
    """The program of ``lp.launch``'s first argument.

    Raises:
        PlanError: it is none, or is to be XManager's.
    """
    if xm_resources is not None:
        raise errors.PlanError("xm_resources belongs to XManager, which kourou does not use: leave it out")
    if isinstance(programs, Program):
        return programs
    if isinstance(programs, Sequence) and programs and all(isinstance(p, Program) for p in programs):
        return cast("Program", programs[0])
    raise errors.PlanError(f"lp.launch takes an lp.Program, got {shown(programs)}")


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
    from kourou.runtime.launchers.ssh.transport import with_inventories  # noqa: PLC0415 - others need none of it

    return with_inventories(Hosts.of(hosts))
