"""Ctrl-C while hosts are still being reached: it ends at once, and leaves no ssh and no rsync behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psutil

import kourou as lp
from kourou import errors
from kourou.runtime.waiting import long_waits
from optional import pytest
from polling import WAIT_S, all_gone, until
from spmd.machines import Machines
from ssh import looking

pytestmark = [pytest.mark.needs("hosts"), pytest.mark.usefixtures("no_leaks")]
needs_rsync = pytest.mark.needs("rsync")


LAUNCH = """
    program = lp.Program("given_up")
    for _ in hosts:
        program.add_node(lp.PyNode(print), label="worker")
    lp.launch(program, "ssh", hosts=lp.Hosts(hosts, ssh_config=config, sync=sync), local_resources=resources)
"""
RUN = "Launcher(hosts, 1, config, None, sync=sync).set_logging_handlers(None).run(print)"
SCRIPT = """
    import sys
    import kourou as lp
    from kourou.spmd import Launcher

    config, sync = sys.argv[1], sys.argv[2] or None
    hosts = ["silent"] if sync else ["m1", "silent"]  # nothing is copied to the home of this machine
    resources = {"worker": lp.Resources(cpus=1)} if "asked" in sys.argv else None
"""


@pytest.fixture
def with_a_silent_one(machines: Machines, tmp_path: Path) -> Iterator[Path]:
    """An ssh_config with a host that accepts connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = tmp_path / "ssh_config"
        silent = f"Host silent\n  HostName 127.0.0.1\n  Port {listener.getsockname()[1]}\n"
        config.write_text(silent + machines.ssh_config.read_text(encoding="utf-8"), encoding="utf-8")
        yield config


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(LAUNCH, [""], id="launch"),
        pytest.param(LAUNCH, ["rsync"], id="launch-rsync", marks=needs_rsync),
        pytest.param(LAUNCH, ["", "asked"], id="launch-inventory"),
        pytest.param(RUN, [""], id="run"),
        pytest.param(RUN, ["rsync"], id="run-rsync", marks=needs_rsync),
    ],
)
def test_ctrl_c_ends_what_is_still_being_reached(
    with_a_silent_one: Path, tmp_path: Path, code: str, words: list[str]
) -> None:
    # Given a launcher that waits for a host to speak
    script = tmp_path / "launcher.py"
    script.write_text(textwrap.dedent(SCRIPT) + textwrap.dedent(code), "utf-8")
    folder = tmp_path / "project"
    folder.mkdir()
    command = [sys.executable, str(script), str(with_a_silent_one), *words]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as launcher:
        try:
            until(lambda: silent_ones(launcher.pid), WAIT_S)
            below = psutil.Process(launcher.pid).children(recursive=True)
            # When
            launcher.send_signal(signal.SIGINT)
            launcher.wait(WAIT_S)
        finally:
            launcher.kill()
        # Then
        assert launcher.stderr is not None
        assert launcher.stderr.read().splitlines()[-1] == "KeyboardInterrupt"
    all_gone(below, WAIT_S)
    until(lambda: not looking.agents(), WAIT_S)


@pytest.mark.parametrize("sync", [None, pytest.param("rsync", marks=needs_rsync)])
def test_a_host_that_says_nothing_is_named_while_it_is_waited_for(
    with_a_silent_one: Path,
    tmp_path: Path,
    sync: Literal["rsync"] | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given
    monkeypatch.setattr(long_waits, "PATIENCE_S", 0.1)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    program = lp.Program("slow_host")
    program.add_node(lp.PyNode(print), label="worker")
    hosts = lp.Hosts(["silent"], ssh_config=with_a_silent_one, sync=sync, connect_timeout_s=2)
    # When
    with pytest.raises(errors.KourouError):
        lp.launch(program, "ssh", hosts=hosts)
    # Then
    what = "still waiting for host silent" if sync is None else f"still copying {Path.cwd()} to silent"
    assert what in caplog.text


def silent_ones(pid: int) -> list[psutil.Process]:
    """The ssh processes below that have a connection to the host that is silent."""
    children = psutil.Process(pid).children(recursive=True)
    return [
        child
        for child in children
        if child.name() == "ssh" and any(c.raddr and c.raddr.ip == "127.0.0.1" for c in child.net_connections("inet"))
    ]
