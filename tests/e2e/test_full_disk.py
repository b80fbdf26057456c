"""A run whose folder lies on a disk that is full, or becomes so: a real one, of 300 kB."""

from __future__ import annotations

import kourou as lp
from kourou.errors import LaunchError
from kourou.runtime.model.status import RunState
from kourou.runtime.monitoring.run_search import find_runs
from optional import pytest

pytestmark = pytest.mark.usefixtures("no_leaks")


def chatter(lines: int) -> None:
    for line in range(lines):
        print("x" * 80, line)


def build(lines: int) -> lp.Program:
    program = lp.Program("full")
    program.add_node(lp.PyNode(chatter, lines), label="chatter")
    program.add_node(lp.PyNode(lp.wait_for_stop), label="calm")
    return program


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_a_disk_that_fills_up_loses_lines_and_nothing_else(small_disk, launch_type, caplog, capsys):
    # Given a node that prints more than the disk holds
    # When the program runs
    with lp.launch(build(10_000), launch_type, run_dir=small_disk) as run:
        run.wait(["chatter"], timeout_s=60)
    # Then all nodes end as they would have, the terminal has all lines, and somebody is told
    assert {name: record.exit.cause for name, record in run.nodes.items() if record.exit} == {
        "chatter/0": "finished",
        "calm/0": "finished",
    }
    assert capsys.readouterr().out.count("[chatter/0] xxx") == 10_000
    (warning,) = (record for record in caplog.records if "disk may be full" in record.getMessage())
    assert str(small_disk) in warning.getMessage()
    # and other shells find out how the run ended, though its launcher lives on
    (found,) = find_runs(small_disk)
    assert found.state is RunState.FINISHED
    assert {str(node.state) for node in found.status().nodes} == {"FINISHED"}


@pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])
def test_a_full_disk_is_told_before_anything_starts(small_disk, launch_type):
    # Given a disk without a free block
    with pytest.raises(OSError, match="No space"):
        (small_disk / "filling").write_bytes(bytes(400_000))
    # When, then
    with pytest.raises(LaunchError, match=r"run.s folder .*No space left.*KOUROU_RUNS_DIR or run_dir="):
        lp.launch(build(1), launch_type, run_dir=small_disk)
