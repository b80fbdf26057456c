"""Many kills in a row, of whatever can be killed on a host, under a program that goes on."""

from __future__ import annotations

import random
from collections.abc import Callable

import psutil

import kourou as lp
from kourou import courier
from optional import pytest
from polling import all_gone, until
from spmd.machines import Machines
from ssh import nodes
from ssh.looking import agent_of, everything_on_hosts

pytestmark = [
    pytest.mark.needs("hosts"),
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.soak,
    pytest.mark.timeout(600),
]

KILLS = 20
WITHIN_S = 60.0
FAST_STOP = lp.StopTimeline(ask_s=1, interrupt_s=1, terminate_s=1)


def sshd_of(machines: Machines, pid: int) -> psutil.Process:
    above = psutil.Process(pid).parents()
    return next(daemon for name in machines.names for daemon in machines.sshds(name) if daemon in above)


def test_a_program_outlives_twenty_kills_of_nodes_agents_and_daemons(
    hosts: Callable[..., lp.Hosts], machines: Machines
) -> None:
    # Given three servers that may run anywhere
    program = lp.Program("soak")
    with program.group("server", on_failure=lp.Restart(max_times=1000, backoff_s=0.01)):
        handles = [program.add_node(lp.CourierNode(nodes.Server)) for _ in range(3)]
    chosen = random.Random(6)
    with lp.launch(program, "ssh", hosts=hosts(), stop_timeline=FAST_STOP) as run:
        clients = [handle.dereference() for handle in handles]
        for client in clients:
            client.where()
        for _ in range(KILLS):
            # When one thing is killed
            name = chosen.choice(list(run.nodes))
            record = run.nodes[name]
            assert record.pid is not None
            kind = chosen.choice(["node", "agent", "sshd"])
            victim = {
                "node": lambda pid: psutil.Process(pid),  # noqa: PLW0108 - reads like the others
                "agent": agent_of,
                "sshd": lambda pid: sshd_of(machines, pid),
            }[kind](record.pid)
            victim.kill()
            # Then its node lives again, and all answer
            before = record.attempt
            until(lambda: run.nodes[name].attempt > before, WITHIN_S)  # noqa: B023 - used before the next round
            until(lambda: all(str(node.state) == "READY" for node in run.nodes.values()), WITHIN_S)
            for client in clients:
                until(lambda: answers(client), WITHIN_S)  # noqa: B023 - likewise
        left = everything_on_hosts()
    all_gone(left, 10)


def answers(client: nodes.Server) -> bool:
    try:
        courier.with_options(client, timeout_s=5).where()
    except lp.errors.RpcError:
        return False
    return True
