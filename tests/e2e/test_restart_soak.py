"""Two hundred kills: actors and the server they call die again and again, and the program goes on."""

from __future__ import annotations

import functools
import os
import random
import signal
import threading
import time
from pathlib import Path

import kourou as lp
from kourou import courier
from optional import pytest
from polling import until

ACTORS = 8
KILLS = 200
SECONDS = 90.0  # for all kills; the test is bounded
LOST = (lp.errors.ConnectionLost, lp.errors.ServerUnavailable)


class Ledger:
    """Writes down every call that it executes, where a kill of its process cannot undo it."""

    def __init__(self, path):
        self._file = open(path, "a", encoding="ascii")  # noqa: SIM115, PTH123 - for as long as the node lives
        self._lock = threading.Lock()

    def record(self, ticket):
        with self._lock:
            self._file.write(ticket + "\n")
            self._file.flush()
        return ticket


class Actor:
    """Calls the ledger with a new ticket each time; a call that was lost is given up, never repeated by the actor."""

    def __init__(self, ledger):
        self._ledger = ledger
        self._done = 0

    def done(self):
        return self._done

    def run(self):
        context = lp.get_context()
        count = 0
        while not lp.wait_for_stop(0.002):
            ticket = f"{context.name}:{context.attempt}:{count}"
            count += 1
            try:
                if self._ledger.record(ticket) == ticket:
                    self._done += 1
            except LOST:
                continue


def is_back(run: lp.Run, dead: lp.NodeRecord) -> bool:
    return run.nodes[dead.name].attempt > dead.attempt


@pytest.mark.soak
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("no_leaks")
def test_two_hundred_kills_lose_nobody_and_repeat_no_call(tmp_path: Path):
    # Given eight actors and the server that they call, all of which are restarted when they die
    ledger_file = tmp_path / "ledger"
    policy = lp.Restart(max_times=10 * KILLS, window_s=3600.0, backoff_s=0.0)
    program = lp.Program("soak")
    with program.group("ledger", on_failure=policy):
        ledger = program.add_node(lp.CourierNode(Ledger, str(ledger_file)))
    with program.group("actor", on_failure=policy):
        actors = [program.add_node(lp.CourierNode(Actor, ledger)) for _ in range(ACTORS)]
    exits: list[lp.ExitRecord] = []
    rng = random.Random(20261120)
    run = lp.launch(program, "local_mp", terminal="output_to_files", on_node_exit=exits.append)
    until(lambda: all(node.state is lp.NodeState.READY for node in run.nodes.values()), 30)
    # When two hundred of their processes are killed, one after the other, whoever it hits
    started = time.monotonic()
    kills = 0
    while kills < KILLS:
        assert time.monotonic() - started < SECONDS, f"only {kills} kills in {SECONDS} s"
        victim = run.nodes[rng.choice(["ledger/0", *(f"actor/{i}" for i in range(ACTORS))])]
        if victim.state is not lp.NodeState.READY or victim.pid is None:
            continue
        os.kill(victim.pid, signal.SIGKILL)
        kills += 1
        until(functools.partial(is_back, run, victim), 30)
    # Then all are back and answer
    until(lambda: all(node.state is lp.NodeState.READY for node in run.nodes.values()), 30)
    clients = [actor.dereference() for actor in actors]
    until(lambda: all(client.done() > 0 for client in clients), 30)
    for client in clients:
        courier.close(client)
    run.stop()
    run.wait()
    # And no call was executed twice, and each death was told
    tickets = ledger_file.read_text(encoding="ascii").split()
    assert len(tickets) > KILLS
    assert len(tickets) == len(set(tickets))
    assert sum(record.signal == "SIGKILL" for record in exits) == KILLS
    print(f"{kills} kills in {time.monotonic() - started:.1f} s, {len(tickets)} calls, none twice")
