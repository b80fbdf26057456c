"""Compiling: a program, a launch type and resources become a launch plan. Pure; every mistake is found here."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kourou import errors
from kourou.cpython import interpreter_options
from kourou.runtime.files.rotation import Rotation
from kourou.runtime.graph.failure_policies import OnFailure, Restart
from kourou.runtime.graph.node import Node
from kourou.runtime.graph.program import Program
from kourou.runtime.graph.resources import PythonProcess, Resources
from kourou.runtime.model.engines import EngineOptions, engine_named
from kourou.runtime.model.hosts import Host, Hosts
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.model.names import index_of, label_of
from kourou.runtime.model.process import ProcessSpec
from kourou.runtime.plan import absl_flags
from kourou.runtime.plan.allocation import shape_of
from kourou.runtime.plan.devices import hand_out_devices
from kourou.runtime.plan.launch_type import LaunchType, launch_type_from
from kourou.runtime.plan.payloads import Payloads
from kourou.runtime.plan.placement import PlacementOf
from kourou.runtime.plan.plan import LaunchPlan, NodePlan, Placement
from kourou.runtime.plan.preloading import choose
from kourou.runtime.plan.validation import TERMINALS, check_arguments, check_hosts, check_node
from kourou.runtime.stopping.timeline import StopTimeline
from kourou.script import names
from kourou.shown import shown
from kourou.working_folder import working_folder


def compile_program(  # noqa: PLR0913 - all but the first two by keyword
    program: Program,
    launch_type: LaunchType | EngineOptions | str | None = None,
    *,
    local_resources: Mapping[str, PythonProcess] | None = None,
    terminal: str | None = None,
    stop: StopTimeline | None = None,
    serialize_py_nodes: bool | None = None,
    inventory: Inventory | None = None,
    hosts: Hosts | Sequence[str | Host] | None = None,
    placement: PlacementOf | None = None,
    setup: Callable[[], object] | None = None,
) -> LaunchPlan:
    """Make the plan of a program; start nothing.

    Args:
        program: the graph.
        launch_type: ``local_mt``, ``local_mp``, ``test_mt``, ``test_mp``, ``ssh``, or an engine such as
            ``lp.Slurm(...)``; None: abseil's flag ``--lp_launch_type``, else KOUROU_LAUNCH_TYPE, else local_mt.
        local_resources: what the processes of each label get, instead of what its group says.
        terminal: ``current_terminal`` (default), ``output_to_files`` or ``tmux_session``.
        stop: the seconds of the stop timeline.
        serialize_py_nodes: whether nodes that run as threads must be picklable too; None: only under test_mt.
        inventory: the CPUs and GPUs to hand out; None: those that this process may use.
        hosts: under ``ssh``: where nodes may run.
        placement: under ``ssh`` and engines: label → host, hosts, or how many processes each host gets. An engine's
            hosts are whatever is named here.
        setup: called in each process before its node is unpickled.

    Raises:
        PlanError: with all mistakes found at once.
        LaunchError: there is no folder to work in.
    """
    _check_beforehand(program)
    kind = launch_type_from(launch_type)
    engine = engine_named(kind.value if launch_type is None else launch_type) if kind.engine else None
    problems = list(check_arguments(program, given := program.resources(local_resources), terminal, setup))
    resources = {label: each for label, each in given.items() if isinstance(each, PythonProcess)}
    wanted = check_hosts(program, kind, engine, hosts, placement, problems)
    spanned = None if wanted is None else wanted.hosts
    payloads = Payloads(one_host=not kind.hosts) if is_pickled(kind, asked=serialize_py_nodes) else None
    plans = plan_nodes(
        program.get_all_nodes(),
        {id(node) for node in program.iterate_members()},
        program,
        payloads=payloads,
        kind=kind,
        resources=resources,
        setup=setup,
        problems=problems,
    )
    if not problems:
        with _noting(problems):
            plans = hand_out_devices(plans, resources, inventory, spanned, {} if wanted is None else wanted.placement)
    if problems:
        raise errors.PlanError(*problems)
    shape, spanned = shape_of(wanted, plans) if wanted is not None and wanted.parts else (None, spanned)
    return LaunchPlan(
        program=program.name,
        launch_type=kind,
        nodes=tuple(plans),
        terminal=terminal or TERMINALS[0],
        stop=stop or StopTimeline(),
        hosts=spanned,
        engine=engine,
        shape=shape,
        blobs={} if kind.threads or payloads is None else payloads.blobs,
        scope=names.ANYTHING if kind.threads or payloads is None else payloads.scope,
    )


def _check_beforehand(program: object) -> None:
    if not isinstance(program, Program):
        raise errors.PlanError(f"a program is an lp.Program, got {shown(program)}")
    working_folder()  # every run has one, also where no process is to start in it
    Rotation.from_environment()  # and logs


def is_pickled(kind: LaunchType, *, asked: bool | None) -> bool:
    """Whether the nodes of a program have to be picklable; ``asked`` is what ``serialize_py_nodes`` says."""
    return not kind.threads or (kind.test if asked is None else asked)


def plan_nodes(
    nodes: Sequence[Node],
    known: Collection[int],
    program: Program,
    *,
    payloads: Payloads | None,
    kind: LaunchType,
    resources: Mapping[str, PythonProcess],
    setup: Callable[[], object] | None,
    problems: list[str],
) -> list[NodePlan]:
    """Plans of nodes, without hosts and devices; notes what is wrong with them."""
    plans: list[NodePlan] = []
    for member in _members(program, nodes):
        if mistakes := check_node(program, member.node, known):
            problems += mistakes
            continue
        with _noting(problems):
            setups = setups_of(setup, resources.get(label_of(member.node.name or "")))
            plans.append(_plan_node(member, payloads, kind, resources, setups))
    return plans if payloads is None or problems else _with_script(plans, payloads, resources, problems)


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except errors.PlanError as error:
        problems += error.problems


def setups_of(*sources: Callable[[], object] | PythonProcess | None) -> tuple[Callable[[], object], ...]:
    """The functions that are called before nodes are, in order: of a launch, and of what labels get."""
    functions = (source.setup if isinstance(source, PythonProcess) else source for source in sources)
    return tuple(dict.fromkeys(function for function in functions if callable(function)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Member:
    """A node of the program, or a child of a colocation, with its place."""

    node: Node
    placement: Placement
    policy: OnFailure
    parent: str | None = None


def _members(program: Program, nodes: Iterable[Node]) -> Iterator[_Member]:
    for node in nodes:
        policy = program.on_failure(label_of(node.name or ""))
        yield from _expand(_Member(node=node, placement=Placement.OWN, policy=policy))


def _expand(member: _Member) -> Iterator[_Member]:
    apart = member.node.children_policy
    yield member if apart is None else dataclasses.replace(member, placement=Placement.UNIT)
    for child in member.node.children():
        # A thread fails its colocation, so what follows is up to the policy of that one.
        place, policy = (Placement.IN_PARENT, member.policy) if apart is None else (Placement.OWN, apart)
        yield from _expand(_Member(node=child, placement=place, policy=policy, parent=member.node.name))


def _plan_node(
    member: _Member,
    payloads: Payloads | None,
    kind: LaunchType,
    resources: Mapping[str, PythonProcess],
    setups: Sequence[Callable[[], object]],
) -> NodePlan:
    node = member.node
    assert node.name is not None  # noqa: S101 - members of a program have names
    payload = None
    if payloads is not None and member.placement is Placement.OWN:
        try:
            payload = payloads.add(node, setups)
        except Exception as error:
            raise errors.PlanError(payloads.find_unpicklable(node, error)) from error
    process = None
    if not kind.threads and member.placement is Placement.OWN:
        resource = resources.get(label_of(node.name)) or PythonProcess()
        process = _process_spec(node.name, index_of(node.name), payload, resource)
    return NodePlan(
        name=node.name,
        kind=node.describe(),
        inputs=tuple(dict.fromkeys(str(handle.node_name) for handle in node.input_handles)),
        serves_only=node.serves_only,
        polls_while_starting=node.polls_while_starting,
        on_failure=member.policy,
        placement=member.placement,
        parent=member.parent,
        process=process,
    )


def _with_script(
    plans: list[NodePlan], payloads: Payloads, resources: Mapping[str, PythonProcess], problems: list[str]
) -> list[NodePlan]:
    """The plans, with the script that their payloads share; notes what of it cannot travel."""
    specs = {plan.name: plan.process for plan in plans if plan.process}
    try:
        finished = {name: payloads.finish(spec.payload) for name, spec in specs.items() if spec.payload}
    except errors.SerializationError as error:
        problems += str(error).splitlines()
        return plans
    given = {
        name: each.preload for name in finished if (each := resources.get(label_of(name))) and each.preload is not None
    }
    restarting = {plan.name for plan in plans if isinstance(plan.on_failure, Restart)}
    imported = {name: payloads.imports(payload) for name, payload in finished.items() if name not in given}
    preload = {**choose(imported, restarting), **given}
    return [
        dataclasses.replace(
            plan,
            process=dataclasses.replace(
                specs[plan.name], payload=finished[plan.name], preload=tuple(preload[plan.name])
            ),
        )
        if plan.name in finished
        else plan
        for plan in plans
    ]


def _process_spec(name: str, index: int, payload: Any, resource: PythonProcess) -> ProcessSpec:
    hardware = resource if isinstance(resource, Resources) else Resources()
    try:
        env = resource.environment(index)
        cwd = hardware.folder(index)
        interpreter = hardware.python(index)
        memory_bytes = hardware.memory_limit(index)
    except Exception as error:
        raise errors.PlanError(f"resources of {name}: {error}") from error
    return ProcessSpec(
        name=name,
        argv=(sys.argv[0] if sys.argv else "", *absl_flags.given(), *resource.arguments()),
        payload=payload,
        interpreter=interpreter or sys.executable,
        interpreter_args=resource.interpreter_options() or interpreter_options(),
        env=tuple(sorted(env.items())),
        cwd=cwd or str(working_folder()),
        memory_bytes=memory_bytes,
    )
