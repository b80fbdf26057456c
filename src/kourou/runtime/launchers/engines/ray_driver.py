"""Ray's driver: holds the placement group and the actors of one allocation until its standard input ends.

It reads a line of JSON that says what is wanted (:class:`Wanted`), then ``[place, command]`` for each agent; it prints
why it waits, and "" once the hosts are there. Whatever Ray says goes to standard error.
"""

# pyright: reportMissingImports=false
# Ray is where an engine of it is used; the checkers run without.

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kourou import threads
from kourou.runtime.host_agent.dialling import NAME_VARIABLE

_TICK_S = 0.25
_END_S = 10.0  # to give all back
_ASK_S = 5.0  # between questions why; a busy cluster changes all the time

# The agent ends with a pipe that its actor holds, however that ends: a worker of Ray is killed when its owner is gone.
_GUARD = """exec 3<&0
"$@" </dev/null 3<&- & agent=$!
{ cat <&3; kill -KILL $agent; } >/dev/null 2>&1 & watch=$!
exec 3<&-
wait $agent; code=$?
kill $watch; exit $code"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a launcher asks of Ray."""

    address: str | None
    group: str
    """The placement group's name."""
    bundle: Mapping[str, float]
    """What each host has, in Ray's words."""
    hosts: int
    strategy: str
    folder: str
    """Where agents' words go."""
    env: Mapping[str, str]
    """Variables of agents."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeState:
    """A node of a Ray cluster."""

    name: str
    total: Mapping[str, float]
    free: Mapping[str, float]

    def fits(self, bundle: Mapping[str, float], taken: int = 0, *, ever: bool = False) -> bool:
        """There is room for one more bundle, beside those taken; ``ever``: were nothing else on it."""
        there = self.total if ever else self.free
        return all(there.get(what, 0) >= amount * (taken + 1) for what, amount in bundle.items())


def reason_to_wait(wanted: Wanted, nodes: Sequence[NodeState]) -> str:
    """Which host cannot be placed, and what there is."""
    bundle, hosts, what = wanted.bundle, wanted.hosts, ""
    if wanted.strategy == "STRICT_PACK":  # all on one node
        bundle, hosts, what = {name: amount * hosts for name, amount in bundle.items()}, 1, f" for all {hosts}"
    most = 1 if wanted.strategy == "STRICT_SPREAD" else hosts
    needs = ", ".join(f"{name} {amount:.12g}" for name, amount in bundle.items()) + what
    there = "; ".join(_room(node, bundle) for node in nodes) or "none"
    if hosts > _places(nodes, bundle, most, ever=True):
        return f"nodes that this Ray cluster does not have: {_which(hosts)} {needs}; its nodes are {there}"
    placed = min(hosts, _places(nodes, bundle, most))
    first = f"host {placed + 1} of {hosts}" if hosts > 1 else "the host"
    return f"{first}, which needs {needs}; free are {there}"


def main() -> None:
    """Read what is wanted, and hold it."""
    lines = _Lines()
    _hold(Wanted(**json.loads(lines.next(None))), lines)


class _Lines:
    """What the launcher says, line by line. After its end this process ends, too: soon, whatever Ray waits for."""

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes] = queue.Queue()
        self.grace_s = 0.0
        self.ended = False
        threads.start(threading.Thread(target=self._read, name="kourou-ray-driver", daemon=True))

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            self._lines.put(line)
        self.ended = True
        time.sleep(self.grace_s)
        os._exit(1)

    def next(self, timeout_s: float | None) -> bytes:
        """The next line; b"" if none comes within this time."""
        with contextlib.suppress(queue.Empty):
            return self._lines.get(timeout=timeout_s)
        return b""


def _hold(wanted: Wanted, lines: _Lines) -> None:
    import ray  # noqa: PLC0415 - it takes a second, and whoever wants to know a reason has no need of it

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers need no kourou, agents do
    ray.init(address=wanted.address, log_to_driver=False, logging_level="warning")
    lines.grace_s = _END_S  # there is something to give back
    group = ray.util.placement_group(
        [dict(wanted.bundle)] * wanted.hosts, strategy=wanted.strategy, name=wanted.group, lifetime=None
    )
    try:
        if _wait_for(group, wanted, lines):
            _keep_agents(group, wanted, lines)
    finally:
        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.util.remove_placement_group(group)
        ray.shutdown()


def _wait_for(group: Any, wanted: Wanted, lines: _Lines) -> bool:
    """True once the hosts are there; False: nobody wants them any more."""
    import ray  # noqa: PLC0415 - see above

    ask_at, told = time.monotonic() + 2 * _TICK_S, ""
    while not group.wait(timeout_seconds=_TICK_S):
        if lines.ended:
            return False
        if ray.util.placement_group_table(group)["state"] == "REMOVED":
            raise SystemExit(f"the placement group {wanted.group} was removed by somebody else")
        if time.monotonic() < ask_at:
            continue
        ask_at = time.monotonic() + _ASK_S
        why = reason_to_wait(wanted, _nodes(ray))
        if why != told:
            _print(why)
            told = why
    _print("")
    return True


def _keep_agents(group: Any, wanted: Wanted, lines: _Lines) -> None:
    import ray  # noqa: PLC0415 - see above
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy  # noqa: PLC0415 - see above

    bundle = dict(wanted.bundle)
    options: dict[str, Any] = {"num_cpus": bundle.pop("CPU", 0), "num_gpus": bundle.pop("GPU", 0)}
    if memory := bundle.pop("memory", 0):
        options["memory"] = memory
    options.update(resources=bundle, max_restarts=0, max_task_retries=0)
    agent: Any = ray.remote(_Agent)
    names = _names(ray, group, wanted.hosts)
    actors: dict[int, Any] = {}
    ends: dict[Any, int] = {}
    while not lines.ended:
        if line := lines.next(_TICK_S):
            place, command = json.loads(line)
            if place in actors:
                ray.kill(actors[place])
                names = _names(ray, group, wanted.hosts)
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=place)
            actors[place] = actor = agent.options(**options).remote()
            environ = {**wanted.env, NAME_VARIABLE: names[place]}
            ends[actor.run.remote(command, environ, f"{wanted.folder}/{place}.log", _GUARD)] = place
        for ended in ray.wait(list(ends), timeout=0)[0] if ends else ():
            place = ends.pop(ended)
            try:
                said = f"its agent ended with {ray.get(ended)}"
            except ray.exceptions.RayError as error:
                said = str(error)
            sys.stderr.write(f"host {place}: {said}\n")


class _Agent:
    """An actor of Ray's, which is one agent."""

    def run(self, command: Sequence[str], environ: Mapping[str, str], log: str, guard: str) -> int:
        """Be the agent until it ends; its exit code."""
        import subprocess  # noqa: PLC0415 - this class travels by value

        with open(log, "ab") as said:  # noqa: PTH123 - as above
            agent = subprocess.Popen(
                ["/bin/sh", "-c", guard, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env={**os.environ, **environ},
                start_new_session=True,
            )
        return agent.wait()


def _nodes(ray: Any) -> list[NodeState]:
    from ray._private.state import available_resources_per_node  # noqa: PLC0415 - Ray's own have no public one, either

    free = available_resources_per_node()
    return [
        NodeState(name=_name(node), total=node["Resources"], free=free.get(node["NodeID"], {}))
        for node in ray.nodes()
        if node["Alive"]
    ]


def _names(ray: Any, group: Any, hosts: int) -> list[str]:
    """What the hosts are called: as Ray calls its nodes; where two are of one name, with their places."""
    known = {node["NodeID"]: _name(node) for node in ray.nodes()}
    where: Callable[[int], Any] = ray.util.placement_group_table(group)["bundles_to_node_id"].get
    names = [known.get(where(place), "") or f"host{place}" for place in range(hosts)]
    count = Counter(names)
    return [name if count[name] == 1 else f"{name}-{place}" for place, name in enumerate(names)]


def _name(node: Mapping[str, Any]) -> str:
    name = str(node.get("NodeName", ""))
    return name if name and name != node["NodeManagerAddress"] else str(node["NodeManagerHostname"])


def _places(nodes: Sequence[NodeState], bundle: Mapping[str, float], most: int, *, ever: bool = False) -> int:
    """How many bundles have room."""
    found = 0
    for node in nodes:
        taken = 0
        while taken < most and node.fits(bundle, taken, ever=ever):
            taken += 1
        found += taken
    return found


def _which(hosts: int) -> str:
    return "the host needs" if hosts == 1 else f"{hosts} hosts need each"


def _room(node: NodeState, bundle: Mapping[str, float]) -> str:
    amounts = (f"{name} {node.free.get(name, 0):.12g} of {node.total.get(name, 0):.12g}" for name in bundle)
    return f"{node.name}: {', '.join(amounts)}"


def _print(why: str) -> None:
    sys.stdout.write(json.dumps(why) + "\n")
    sys.stdout.flush()
