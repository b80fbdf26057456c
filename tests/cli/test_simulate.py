"""``kourou simulate``: nothing is started, and the same seed says the same."""

from __future__ import annotations

import pytest

from cli.commands import PROGRAMS, kourou
from kourou.runtime.simulation.invariants import InvariantBroken, Invariants

SIMULATE = ("simulate", f"{PROGRAMS}:make_endless", "--nodes", "50", "--hosts", "5", "--hours", "0.1")


def test_a_program_is_simulated_with_more_nodes_than_it_has(runs_dir):
    outcome = kourou(*SIMULATE)
    assert outcome.code == 0, outcome.err
    assert "50 nodes on 5 hosts, seed 0" in outcome.out
    assert "all READY: after" in outcome.out
    assert not runs_dir.exists()


def test_figures_are_json():
    reports = [kourou(*SIMULATE, "--json", "--faults", "slow=20%", "--seed", seed).json for seed in ("3", "3", "4")]
    for report in reports:
        assert report["broken"] is None
        del report["wall_s"], report["event_us"]
    assert reports[0] == reports[1] != reports[2]


def test_what_must_hold_and_does_not_is_told_with_the_seed(monkeypatch):
    def broken(*_args, **_kwargs):
        raise InvariantBroken("a/0 runs twice")

    monkeypatch.setattr(Invariants, "process_began", broken)
    outcome = kourou(*SIMULATE, "--seed", "7", "--seeds", "3")
    assert outcome.code == 1
    assert "a/0 runs twice" in outcome.err
    assert "--seed 7 shows it again" in outcome.err


@pytest.mark.parametrize("faults", ["nodes=1%", "node=often", "host=-1"])
def test_faults_that_make_no_sense_are_a_mistake(faults):
    outcome = kourou(*SIMULATE, "--faults", faults)
    assert outcome.code == 2
    assert "--faults" in outcome.err
