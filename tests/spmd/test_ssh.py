"""Runs on hosts of their own, over real ssh: results, failures, lost hosts, and that nothing is left on any of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Literal

import psutil

from kourou.errors import PlanError
from kourou.runtime.metrics.log import logging_to
from kourou.runtime.metrics.reading import read_metrics
from kourou.spmd import AgentFailedError, Launcher, WorkerFailedError
from optional import optional, pytest
from polling import all_gone, until
from spmd import functions
from spmd.machines import WITHOUT_TORCH, Machines

pytestmark = [
    pytest.mark.needs("hosts"),
]

torch = optional("torch")
LONG_S = 60.0  # an agent imports torch first, and this machine may be busy
PATIENT_S = 30
HASTY_S = 4
SHORT_S = 12
BYTES_PER_S = 8 << 20


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    variables = {
        "m1": {"CUDA_VISIBLE_DEVICES": "4,5,6"},  # which this machine does not have
        "m2": {"CUDA_VISIBLE_DEVICES": "2,7"},
        "m3": {"PYTHONPATH": WITHOUT_TORCH},
        "m4": {"PYTHONPATH": WITHOUT_TORCH},
    }
    with Machines(tmp_path_factory.mktemp("machines"), 4, variables=variables).up() as four:
        yield four


@pytest.fixture(scope="module")
def launchers(machines: Machines) -> Iterator[tuple[Launcher, Launcher]]:
    with of(machines, ["m1", "m2"]) as with_torch, of(machines, ["m3", "m4"], backend=None) as plain:
        yield with_torch, plain


@pytest.fixture
def shared_two(launchers: tuple[Launcher, Launcher]) -> Iterator[Launcher]:
    """A launcher whose zygotes most tests share: each of them has torch imported. It has the same fields at the end."""
    yield from as_it_was(launchers[0])


@pytest.fixture
def plain_two(launchers: tuple[Launcher, Launcher]) -> Iterator[Launcher]:
    """The same without torch: agents and zygotes that a test loses are soon there again."""
    yield from as_it_was(launchers[1])


def as_it_was(launcher: Launcher) -> Iterator[Launcher]:
    before = {name: value for name, value in vars(launcher).items() if not name.startswith("_")}
    yield launcher
    vars(launcher).update(before)


def of(
    machines: Machines, names: list[str], timeout_s: int = PATIENT_S, backend: Literal["gloo"] | None = "gloo"
) -> Launcher:
    launcher = Launcher(names, 1, machines.ssh_config, backend, agent_timeout_s=timeout_s)
    return launcher.set_logging_handlers(None)


def started_on(folder: Path, count: int) -> list[psutil.Process]:
    """The workers that announced themselves, their zygotes and the agents that these came from."""
    files = [folder / f"{rank}.pid" for rank in range(count)]
    until(lambda: all(file.exists() and file.read_text(encoding="ascii") for file in files), LONG_S)
    workers = [psutil.Process(int(file.read_text(encoding="ascii"))) for file in files]
    zygotes = [parent for worker in workers if (parent := worker.parent())]
    agents = [parent for zygote in zygotes if (parent := zygote.parent())]
    assert all("kourou.runtime.host_agent.pipe_agent" in " ".join(agent.cmdline()) for agent in agents)
    return [*workers, *zygotes, *agents]


def test_ranks_of_two_hosts_meet(shared_two: Launcher) -> None:
    assert shared_two.run(functions.sum_of_ranks).results == {"m1": [(0, 1.0)], "m2": [(1, 1.0)]}
    names = shared_two.run(functions.hostname).results
    assert names == {"m1": ["m1"], "m2": ["m2"]}


def test_runs_may_overlap(shared_two: Launcher) -> None:
    running = [shared_two.submit(functions.sum_of_ranks) for _ in range(4)]
    assert [run.result(LONG_S).rank(1) for run in running] == [(1, 1.0)] * 4


def test_what_ranks_log_is_the_callers(shared_two: Launcher, tmp_path: Path) -> None:
    with logging_to(tmp_path):
        shared_two.run(functions.log_rank, 3)
    rows = [(row["node"], row["step"], row["rank"]) for row in read_metrics(tmp_path)]
    assert sorted(rows) == [("rank/0", 3, 0), ("rank/1", 3, 1)]


def test_copied_variables_cross_and_others_do_not(shared_two: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOSTILE", "a 'b'\n\"$c\"")
    monkeypatch.setenv("SECRET_OF_THE_LAUNCHER", "1")
    seen = shared_two.run(functions.variables, "CUDA_HOSTILE", "SECRET_OF_THE_LAUNCHER").rank(1)
    assert seen == {"CUDA_HOSTILE": "a 'b'\n\"$c\"", "SECRET_OF_THE_LAUNCHER": None}


def test_an_exception_of_another_host_says_where_it_was_raised(shared_two: Launcher) -> None:
    with pytest.raises(ValueError, match="rank one has had enough") as caught:
        shared_two.run(functions.fail_in_a_collective)
    assert caught.value.host == "m2"  # type: ignore[attr-defined]


def test_a_worker_that_is_killed_there_is_typed_here(shared_two: Launcher) -> None:
    with pytest.raises(WorkerFailedError, match="rank 1 on m2 was killed by SIGKILL"):
        shared_two.run(functions.die, "SIGKILL")
    assert shared_two.run(functions.rank).results == {"m1": [0], "m2": [1]}


def test_the_env_file_is_read_here_and_means_the_same_there(
    shared_two: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOT_OF_ALL", "/data")
    shared_two.env_file = tmp_path / "my env"
    shared_two.env_file.write_text('export A_PLACE="${ROOT_OF_ALL}/my runs"  # here\n', encoding="utf-8")
    assert shared_two.run(functions.variables, "A_PLACE").rank(1) == {"A_PLACE": "/data/my runs"}


def test_a_run_that_is_cancelled_ends_on_all_hosts(shared_two: Launcher, tmp_path: Path) -> None:
    running = shared_two.submit(functions.announce_and_wait, tmp_path)
    workers = started_on(tmp_path, 2)[:2]
    running.cancel()
    with pytest.raises(CancelledError):
        running.result(LONG_S)
    all_gone(workers, LONG_S)
    assert shared_two.run(functions.rank).results == {"m1": [0], "m2": [1]}


def test_a_run_whose_host_is_lost_is_repeated_if_that_is_wanted(plain_two: Launcher, tmp_path: Path) -> None:
    plain_two.retries = 1
    running = plain_two.submit(functions.announce_and_wait_once, tmp_path)
    started_on(tmp_path, 2)[-1].kill()  # the agent of m4
    assert running.result(LONG_S).results == {"m3": [0], "m4": [1]}


SLOW_WAY = """
    import os, selectors, socket, sys, time
    far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    ways = selectors.DefaultSelector()
    ways.register(0, selectors.EVENT_READ, lambda: far.sendall(read(0)))
    ways.register(far, selectors.EVENT_READ, lambda: os.write(1, read(far.fileno())))

    def read(descriptor):
        data = os.read(descriptor, 1 << 16)
        time.sleep(len(data) / float(sys.argv[3]))
        return data or sys.exit()

    while True:
        for key, _ in ways.select():
            key.data()
"""


@pytest.mark.soak
def test_what_takes_longer_than_a_host_may_be_silent_gets_through(machines: Machines, tmp_path: Path) -> None:
    # Given a slow link
    (tmp_path / "way.py").write_text(textwrap.dedent(SLOW_WAY), encoding="utf-8")
    config = tmp_path / "ssh_config"
    slow = f"Host m1\n  ProxyCommand {sys.executable} {tmp_path}/way.py %h %p {BYTES_PER_S}\n"
    config.write_text(slow + machines.ssh_config.read_text(encoding="utf-8"), encoding="utf-8")
    with of(machines, ["m1"]) as launcher:
        launcher.ssh_config_file, launcher.agent_timeout_s, launcher.backend = config, SHORT_S, None
        value = torch.ones(BYTES_PER_S * 2 * SHORT_S // 4)
        # When
        started = time.monotonic()
        total = launcher.run(torch.sum, value).rank(0)
        # Then
        assert time.monotonic() - started > 2 * SHORT_S
        assert total == value.numel()


def test_workers_get_gpus_of_their_own_host(shared_two: Launcher) -> None:
    # Given two hosts with GPUs
    shared_two.backend, shared_two.workers_per_host, shared_two.gpus_per_worker = None, 2, 1
    # When
    results = shared_two.run(functions.variables, "CUDA_VISIBLE_DEVICES").results
    # Then
    seen = {host: [answer["CUDA_VISIBLE_DEVICES"] for answer in answers] for host, answers in results.items()}
    assert seen == {"m1": ["4", "5"], "m2": ["2", "7"]}
    # and what is too much is refused by name
    shared_two.workers_per_host = 3
    with pytest.raises(PlanError, match="m2: 3 GPUs are asked for"):
        shared_two.run(functions.rank)


def test_what_is_large_crosses_once_for_all_workers_of_a_host(shared_two: Launcher) -> None:
    shared_two.hostnames, shared_two.workers_per_host = ["m1"], 2
    shared_two.run(functions.rank)
    (ssh,) = [child for child in psutil.Process().children() if "m1" in child.cmdline()]
    value = torch.ones(2 << 20)
    before = ssh.io_counters().read_chars
    # When it goes there and comes back
    results = shared_two.run(functions.same, value).results["m1"]
    # Then ssh had to read it twice, and not four times
    assert ssh.io_counters().read_chars - before < 3 * value.nbytes
    assert [result.sum() for result in results] == [value.sum()] * 2


@pytest.mark.parametrize(("name", "words"), [("nowhere", "route|timed out"), ("no-such-host.invalid", "resolve")])
def test_a_host_that_does_not_answer_is_told_in_sshs_own_words(machines: Machines, name: str, words: str) -> None:
    with (
        of(machines, ["m3", name], HASTY_S, backend=None) as launcher,
        pytest.raises(AgentFailedError, match=words) as caught,
    ):
        launcher.run(functions.rank)
    assert caught.value.hostname == name


def test_a_folder_that_is_not_there_is_told_in_the_shells_words(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone 'away'"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with of(machines, ["m1"]) as launcher:
        monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "never 'was'")
        with pytest.raises(AgentFailedError, match=r"(?s)never 'was'.*sync='rsync'"):
            launcher.run(functions.rank)


def test_an_agent_that_is_killed_is_a_lost_host_and_nothing_is_left(plain_two: Launcher, tmp_path: Path) -> None:
    running = plain_two.submit(functions.announce_and_wait, tmp_path)
    processes = started_on(tmp_path, 2)
    # When
    processes[-1].kill()
    # Then
    with pytest.raises(AgentFailedError, match="m4"):
        running.result(5)
    workers, (zygote, agent) = processes[:2], processes[3::2]
    all_gone([*workers, zygote, agent], LONG_S)  # those of m3 wait for the next run
    # and that has a new agent
    assert plain_two.run(functions.rank).results == {"m3": [0], "m4": [1]}


SCRIPT = """
    import sys
    from kourou.spmd import Launcher
    from spmd import functions

    launcher = Launcher(["m3"], 2, sys.argv[1], None).set_logging_handlers(None)
    launcher.run(functions.announce_and_wait, pathlib.Path(sys.argv[2]))
"""


def test_nothing_is_left_when_the_launcher_is_killed(machines: Machines, tmp_path: Path) -> None:
    script, folder = tmp_path / "launcher.py", tmp_path / "pids"
    folder.mkdir()
    path = [str(Path(__file__).parent.parent)]
    script.write_text(f"import sys; sys.path[:0] = {path!r}; import pathlib\n" + textwrap.dedent(SCRIPT), "utf-8")
    with subprocess.Popen([sys.executable, str(script), str(machines.ssh_config), str(folder)]) as launcher:
        processes = started_on(folder, 2)
        launcher.send_signal(signal.SIGKILL)
    all_gone(processes, 5)


def test_this_machine_may_be_one_of_them_and_a_link_that_is_cut_for_a_while_is_survived(
    shared_two: Launcher, machines: Machines, tmp_path: Path
) -> None:
    shared_two.hostnames = ["localhost", "m1"]
    assert shared_two.run(functions.sum_of_ranks).results == {"localhost": [(0, 1.0)], "m1": [(1, 1.0)]}
    running = shared_two.submit(functions.wait_for, tmp_path / "go")
    until(lambda: len(list(tmp_path.glob("waiting*"))) == 2, LONG_S)
    # When
    machines.cut("m1")
    try:
        time.sleep(5)  # that is the time to survive
    finally:
        machines.mend("m1")
    (tmp_path / "go").touch()
    # Then
    assert running.result(LONG_S).results == {"localhost": [0], "m1": [1]}


def test_a_link_that_is_cut_for_good_is_a_lost_host(machines: Machines, tmp_path: Path) -> None:
    with of(machines, ["m3", "m4"], HASTY_S, backend=None) as launcher:
        running = launcher.submit(functions.announce_and_wait, tmp_path)
        processes = started_on(tmp_path, 2)
        # When
        machines.cut("m4")
        try:
            # Then
            with pytest.raises(AgentFailedError, match="m4"):
                running.result(LONG_S)
            workers, (zygote, agent) = processes[:2], processes[3::2]
            all_gone([*workers, zygote, agent], LONG_S)  # those of m3 wait for the next run
        finally:
            machines.mend("m4")
    all_gone(processes, 5)


def test_no_secret_is_in_any_command_line(shared_two: Launcher) -> None:
    shared_two.extra_env_vars = {"MY_SECRET": "c0ffee-c0ffee"}
    assert shared_two.run(functions.variables, "MY_SECRET").rank(1) == {"MY_SECRET": "c0ffee-c0ffee"}
    assert not any("c0ffee" in word for p in psutil.process_iter(["cmdline"]) for word in p.info["cmdline"] or ())
