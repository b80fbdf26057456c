"""A launch plan for people, as a table."""

from __future__ import annotations

from rich.table import Table

from kourou.cli.terminal.formats import size
from kourou.runtime.graph.failure_policies import Restart
from kourou.runtime.model.hosts import Hosts
from kourou.runtime.plan.plan import LaunchPlan, NodePlan, Placement

_MOST_NAMED = 5


def plan_as_table(plan: LaunchPlan) -> Table:
    """One row a node."""
    table = Table(title=f"{plan.program} · {plan.launch_type} · {len(plan.nodes)} nodes", title_justify="left")
    for heading in ("node", *(["host"] if plan.hosts else []), "kind", "calls", "started with"):
        table.add_column(heading, overflow="fold")
    for node in plan.nodes:
        where = [_host_of(node, plan.hosts)] if plan.hosts else []
        table.add_row(node.name, *where, node.kind, ", ".join(node.inputs) or "–", _started_with(node))
    return table


def _host_of(node: NodePlan, hosts: Hosts) -> str:
    if node.site is None:
        return ""
    others = [name for name in hosts.names if name != node.site.host] if node.site.others is None else node.site.others
    if not others or not isinstance(node.on_failure, Restart):
        return node.site.host
    named = ", ".join(others) if len(others) <= _MOST_NAMED else f"one of {len(others)} others"
    return f"{node.site.host} (or {named})"


def _started_with(node: NodePlan) -> str:
    if node.placement is Placement.IN_PARENT:
        return f"thread of {node.parent}"
    if node.placement is Placement.UNIT:
        return "its children"
    if node.process is None:
        return "thread"
    spec = node.process
    parts = [f"process, payload {size(spec.payload.size_bytes)}" if spec.payload else f"command {spec.argv[0]}"]
    parts += spec.interpreter_args
    parts += [f"{name}={value}" for name, value in spec.env]
    if spec.cpus is not None:
        parts.append(f"on CPU {', '.join(map(str, spec.cpus))}")
    parts += spec.argv[1:]
    return " ".join(parts)
