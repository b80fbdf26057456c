"""What is said where the system allows no more threads or processes, and that nothing is left then."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kourou import errors, threads
from kourou.courier.lanes.local import socket_file
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.process.supervisor import Supervisor
from kourou.spmd.hosts.local import LocalHost
from leaks import DESCRIPTORS

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Refused(threading.Thread):
    """As where the system has no more."""

    def __init__(self, words: str) -> None:
        super().__init__(name="kourou-test")
        self._words = words

    def start(self) -> None:
        raise RuntimeError(self._words)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[int, tuple[int, int]]:
    """Limits of this process, to be changed; it is in a cgroup below another one."""
    limits: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr("resource.getrlimit", lambda which: limits.get(which, UNLIMITED))
    own = tmp_path / "own"
    own.write_text("4:memory:/elsewhere\n0::/job/step\n")
    (tmp_path / "job" / "step").mkdir(parents=True)
    monkeypatch.setattr("kourou.limits._OWN_CGROUPS", own)
    monkeypatch.setattr("kourou.limits._CGROUPS", tmp_path)
    return limits


def refusal() -> str:
    with pytest.raises(errors.LaunchError) as caught:
        threads.start(Refused("can't start new thread"))
    text = str(caught.value)
    assert text.startswith("cannot start the thread kourou-test: ")
    return text


@pytest.mark.parametrize(
    ("most", "allowed", "told"),
    [
        (3, 3, "may have 3 processes and threads at once, which `ulimit -u` cannot raise, but root"),
        (3, 50, "may have 3 processes and threads at once, up to 50 after `ulimit -u`"),
        (3, resource.RLIM_INFINITY, "may have 3 processes and threads at once, up to any number after `ulimit -u`"),
    ],
)
def test_a_thread_that_cannot_be_started_is_told_with_the_users_limit(
    limits: dict[int, tuple[int, int]], most: int, allowed: int, told: str
) -> None:
    limits[resource.RLIMIT_NPROC] = (most, allowed)
    assert told in refusal()


@pytest.mark.usefixtures("limits")
def test_or_with_the_narrowest_limit_of_its_cgroups(tmp_path: Path) -> None:
    (tmp_path / "job" / "pids.max").write_text("7\n")
    (tmp_path / "job" / "step" / "pids.max").write_text("max\n")
    assert "its cgroup may have 7 of them (pids.max)" in refusal()


def test_or_with_that_of_addresses(limits: dict[int, tuple[int, int]]) -> None:
    limits[resource.RLIMIT_AS] = (2 << 30, resource.RLIM_INFINITY)
    assert "may have 2048 MiB of addresses (`ulimit -v`), stacks included" in refusal()


@pytest.mark.usefixtures("limits")
def test_without_a_limit_of_its_own_the_systems_is_named() -> None:
    assert "kernel.threads-max" in refusal()


@pytest.mark.parametrize(
    "words", ["can't create new thread at interpreter shutdown", "threads can only be started once"]
)
def test_other_refusals_stay_what_they_are(words: str) -> None:
    with pytest.raises(RuntimeError, match=words) as caught:
        threads.start(Refused(words))
    assert type(caught.value) is RuntimeError


@pytest.mark.parametrize("make", [Supervisor, LocalHost, lambda: LoopThread("kourou-loop")])
def test_what_cannot_have_its_thread_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[], object]
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(socket_file, "default_folder", lambda: str(tmp_path))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    before = len(list(DESCRIPTORS.iterdir()))
    with pytest.raises(errors.LaunchError) as caught:  # whose traceback keeps what was half made
        make()
    assert len(list(DESCRIPTORS.iterdir())) == before
    assert not list(tmp_path.iterdir())
    del caught
