"""Whether a node can be started again when somebody asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from kourou import errors
from kourou.runtime.model.records import NodeRecord


def check_restart(name: str, records: Mapping[str, NodeRecord], inside: Mapping[str, str], *, threads: bool) -> None:
    """See whether it can.

    Args:
        name: the node.
        records: all nodes.
        inside: of nodes that are threads of their colocation: that colocation.
        threads: all are threads of the launcher.

    Raises:
        NotFound: there is no such node.
        NodeExited: it has ended for good.
        PlanError: it is a thread.
    """
    record = records.get(name)
    if record is None:
        raise errors.NotFound(f"there is no node {name!r}; there are: {', '.join(records)}")
    if threads:
        raise errors.PlanError(
            f"{name} is a thread, and only processes can be ended from outside: launch with local_mp"
        )
    if name in inside:
        outermost = inside[name]
        while outermost in inside:
            outermost = inside[outermost]
        raise errors.PlanError(f"{name} is a thread of {outermost}, which can be started again as a whole")
    if record.gone:
        how = f": it {record.exit.cause}" if record.exit else ""
        raise errors.NodeExited(f"{name} has ended for good{how}; only what runs can be started again")
