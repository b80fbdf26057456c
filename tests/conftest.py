"""Fixtures that every test has."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import HOW_TO_GET, what_is_missing
from fuzzing import register_profiles
from leaks import Snapshot, owners_of_descriptors
from nursery import Nursery
from polling import WAIT_S
from pure import Guard, is_pure, may_be_pure

ROOT = Path(__file__).parent
GUARD = Guard()  # in every session, so that `make test` finds what `make test-fast` would
# Above the longest timeline of a stop that a test waits out (ask, SIGTERM, SIGKILL), far below a test's time-out.
LEAVE_TIMEOUT_S = 5.0

# A shell that runs this in the background, or under nohup, has these ignored, and every process would inherit that.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Where a proxy is set, grpcio sends even what stays on this host to it; channels that tests make themselves, too.
for _name in ("http_proxy", "https_proxy", "grpc_proxy"):
    os.environ.pop(_name, None)


# Some container images set it; then every process that a test starts would compile every module that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

register_profiles()
pytest.register_assert_rewrite("kourou.testing.contracts")  # what fails there says what it compared, as tests do

# What collecting makes stays: to look through it for cycles, again and again, is a second of each process of a session.
gc.disable()

# They take half a minute and more, mostly waiting; begun last, one of them would run on when all others have ended.
LONGEST = """
    spmd/test_run e2e/test_examples experiments/test_managers spmd/test_ssh cli/test_live_run ssh/test_losses
    ssh/test_programs e2e/test_own_script experiments/test_slurm ssh/test_reaching e2e/test_launcher_exits
    documentation/test_walkthroughs spmd/test_weaknesses spmd/test_front_ends e2e/test_kubernetes e2e/test_signals
    e2e/test_scale e2e/test_elastic e2e/test_cycles e2e/test_stop nodes/test_colocation nodes/test_replay
    nodes/test_torch e2e/test_own_script_children experiments/test_manager_slurm e2e/test_places cli/test_ended_runs
    experiments/test_manager_sb3 static_types/test_verdicts e2e/test_slurm_hosts experiments/test_manager_tuning
    spmd/test_failures testing/test_pytest_plugin replay/test_restart
"""

# They import torch, for two seconds of a processor, or share a launcher whose zygote does: one process gets them all.
WITH_TORCH = """
    spmd/test_run spmd/test_weaknesses spmd/test_front_ends spmd/test_failures spmd/test_output spmd/test_races
    nodes/test_torch experiments/test_manager_sb3 experiments/test_manager_torch experiments/test_seeding
    courier/test_batching courier/test_codec courier/test_failures replay/test_dataset replay/test_dtypes
    runtime/test_metrics runtime/test_shared_tensors weights/test_page weights/test_tensors
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pure", action="store_true", help="only tests that start no process: see tests/pure.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("pure") and not may_be_pure(collection_path) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Give out files, as xdist does, and those with torch as if they were one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    together = {f"tests/{name}.py" for name in WITH_TORCH.split()}
    scheduler = LoadFileScheduling(config, log)
    file_of = scheduler._split_scope
    scheduler._split_scope = lambda nodeid: "with torch" if (file := file_of(nodeid)) in together else file
    return scheduler


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with GUARD.watching() if is_pure(item) else contextlib.nullcontext():
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take longest come first: `make test` gives them out in this order."""
    if config.getoption("pure"):
        config.hook.pytest_deselected(items=[item for item in items if not is_pure(item)])
        items[:] = filter(is_pure, items)
    places = {ROOT / f"{name}.py": place for place, name in enumerate(LONGEST.split())}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out the tests that need what is not here. On CI they fail: a runner without it is a mistake there."""
    for mark in item.iter_markers("needs"):
        if reason := what_is_missing(*mark.args):
            if os.environ.get("CI"):
                pytest.fail(f"{reason}; CI runs all tests, and .ci/tools should have installed it", pytrace=False)
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests were left out for want of an engine, and how to get it."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    if count := sum("needs " in reason and ": " in reason for reason in skipped):
        terminalreporter.write_sep(
            "=", f"{count} tests were skipped for want of what they need; {HOW_TO_GET}", yellow=True
        )


@pytest.fixture(autouse=True)
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the folders of runs out of the user's home, and mark every process that the test starts."""
    path = tmp_path / "runs"
    monkeypatch.setenv("KOUROU_RUNS_DIR", str(path))
    return path


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder on a disk of its own, of 300 kB, or with the options of mount that are its parameter."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", getattr(request, "param", "size=300k"), "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def no_leaks(runs_dir: Path) -> Iterator[Snapshot]:
    """Fail the test when it leaves a process, thread, file descriptor or shared memory segment behind.

    Use it as ``pytestmark = pytest.mark.usefixtures("no_leaks")``, or first among a test's arguments: a fixture that
    is set up after it is torn down before it looks.
    """
    before = Snapshot.take(runs_dir)
    yield before
    left = before.leftovers_after(LEAVE_TIMEOUT_S)
    assert not left, "left behind by this test:\n" + "\n".join(left)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """For a test that reads all sources: the collector would look through what they become again and again."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Starts processes that run a piece of code with kourou's lanes, replay, weights and NumPy, quickly."""
    lanes = (f"kourou.courier.lanes.{lane}.{end}" for lane in ("local", "grpc") for end in ("server", "client"))
    with Nursery("numpy", "kourou.replay", "kourou.weights", "kourou.script.unpicklable", *lanes) as nursery:
        yield nursery


@pytest.fixture(scope="session", autouse=True)
def _no_leaks_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = Snapshot.take(tmp_path_factory.getbasetemp())
    yield
    left = before.leftovers_after(WAIT_S)  # gRPC closes its poller in its own time, and other sessions may run
    left += owners_of_descriptors() if left else []
    assert not left, "left behind by the session (use the fixture no_leaks to find the test):\n" + "\n".join(left)
