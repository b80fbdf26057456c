"""The first process of a pod that is a host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from kourou.runtime.host_agent import pod


def test_a_pod_that_is_ended_as_its_agent_ends_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an agent that has ended, and is no process any more
    with subprocess.Popen([sys.executable, "-c", ""]) as agent:
        pass
    monkeypatch.setattr(os, "posix_spawn", lambda *_, **__: agent.pid)

    def wait(pid: int, options: int) -> tuple[int, int]:
        signal.raise_signal(signal.SIGTERM)  # When the pod is told to end right then
        return agent.pid, 0

    monkeypatch.setattr(os, "waitpid", wait)
    monkeypatch.setenv(pod.PLACES, "0")
    before = signal.getsignal(signal.SIGTERM)
    try:
        # Then
        with pytest.raises(SystemExit) as ended:
            pod.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM
