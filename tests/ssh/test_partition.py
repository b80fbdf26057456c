"""Two hosts that lose each other, while both still reach the launcher: nobody is lost, but calls between them are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import kourou as lp
from kourou.courier.lanes.http2 import tcp
from optional import pytest
from polling import WAIT_S, until
from spmd.machines import Machines
from ssh import partition

pytestmark = [pytest.mark.needs("hosts"), pytest.mark.usefixtures("no_leaks")]

FAST_STOP = lp.StopTimeline(ask_s=1, interrupt_s=1, terminate_s=1)
SHORT_S = 6  # in place of tcp.SILENCE_S
SERVER_NOTICES_S = 90
BUSY_S = 10  # what a busy machine may take longer
MakeHosts = Callable[..., lp.Hosts]


def test_calls_between_them_end_in_the_stated_time_and_go_on_when_they_have_found_each_other(
    hosts: MakeHosts, machines: Machines, tmp_path: Path
) -> None:
    # Given clients on m1 of a server on m3: one that waits for an answer, one that sends again and again, one that
    # sends much, and one that does nothing
    program = lp.Program("apart")
    server = program.add_node(lp.CourierNode(partition.Server, tmp_path), label="server")
    for kind in partition.KINDS:
        program.add_node(lp.PyNode(partition.call, server, kind, tmp_path, SHORT_S), label="client")
    placement = {"server": "m3", "client": "m1"}
    with lp.launch(program, "ssh", hosts=hosts("m1", "m3"), placement=placement, stop_timeline=FAST_STOP) as run:
        until(lambda: all((tmp_path / f"{kind} calls").exists() for kind in partition.KINDS), WAIT_S)
        with machines.separated("m1", "m3"):
            # When
            cut_at = time.time()
            told = [tmp_path / f"{kind} told" for kind in partition.KINDS if kind != "rest"]
            until(lambda: all(file.exists() for file in told), SHORT_S + WAIT_S)
        (tmp_path / "mended").touch()
        # Then
        for file in told:
            error, seconds = json.loads(file.read_text(encoding="utf-8"))
            assert error.startswith("ConnectionLost")
            assert seconds - cut_at < SHORT_S + BUSY_S
        # and all call again, the one that did nothing without having noticed anything
        until(lambda: all((tmp_path / f"{kind} again").exists() for kind in partition.KINDS), WAIT_S)
        assert {(record.attempt, str(record.state)) for record in run.nodes.values()} == {(1, "READY")}


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_with_the_times_that_are_documented_the_server_notices_as_well(
    hosts: MakeHosts, machines: Machines, tmp_path: Path
) -> None:
    program = lp.Program("apart")
    server = program.add_node(lp.CourierNode(partition.Server, tmp_path), label="server")
    program.add_node(lp.PyNode(partition.call, server, "wait", tmp_path, tcp.SILENCE_S), label="client")
    placement = {"server": "m3", "client": "m1"}
    with lp.launch(program, "ssh", hosts=hosts("m1", "m3"), placement=placement, stop_timeline=FAST_STOP):
        until((tmp_path / "wait calls").exists, WAIT_S)
        with machines.separated("m1", "m3"):
            cut_at = time.time()
            until((tmp_path / "wait told").exists, tcp.SILENCE_S + BUSY_S)
            until((tmp_path / "given up").exists, SERVER_NOTICES_S + BUSY_S)
            assert time.time() - cut_at < SERVER_NOTICES_S + BUSY_S
        (tmp_path / "mended").touch()
        until((tmp_path / "wait again").exists, WAIT_S)
