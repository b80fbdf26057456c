"""What every engine has to do, as checks that anybody can run.

Each check is a function of one argument: the engine's options, for two hosts, with a short ``lost_after_s``. It
launches programs, looks at what they do, and raises AssertionError when the engine breaks the contract::

    @pytest.mark.parametrize("check", ENGINE_CHECKS)
    def test_my_engine(check):
        check(MyEngine(nodes=2, lost_after_s=3))

Processes that are left are looked for on this machine, so the engine's hosts should be here.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil

import kourou as lp
from kourou.runtime.model.engines import EngineOptions
from kourou.testing.polling import until

_MARK = "KOUROU_CONTRACT"
_AGENTS = ("host_agent.dialling import main", "host_agent.pod import be_agent")
_PATIENCE_S = 60.0
_STOP = lp.StopTimeline(ask_s=3, interrupt_s=1, terminate_s=1)


class _Server:
    """What runs on the hosts."""

    def where(self) -> tuple[str, int, int]:
        return os.environ.get("KOUROU_HOST_NAME") or os.environ.get("SLURMD_NODENAME", ""), os.getpid(), _attempt()

    def say(self, words: str) -> None:
        print(words)  # noqa: T201 - a node's output

    def die(self) -> None:
        os._exit(3)

    def lose_host(self) -> None:
        """The agent is killed, as the out-of-memory killer would, and its node with it."""
        above = psutil.Process().parents()
        agent = next(p for p in above if any(each in " ".join(p.cmdline()) for each in _AGENTS))
        agent.kill()


def check_a_run(options: EngineOptions) -> None:
    """Start, calls, output; a node that dies; a host that is lost; a stop; nothing left."""
    with _marked() as mark:
        program, handles = _program(on_failure=lp.Restart(backoff_s=0.01))
        run = lp.launch(program, options, placement={"server": ["a", "b"]}, stop_timeline=_STOP)
        with run:
            one, other = (handle.dereference() for handle in handles)
            before = [one.where(), other.where()]
            assert before[0][0] != before[1][0], f"two hosts were asked for, got {before}"
            assert [run.nodes[f"server/{i}"].host for i in (0, 1)] == [each[0] for each in before]
            one.say("Grüße")
            log = run.folder / "logs" / "server" / "0.log"
            until(
                lambda: log.exists() and "Grüße" in log.read_text("utf-8"),
                _PATIENCE_S,
                "a line in the launcher's folder",
            )
            # A node dies: it alone starts again, where it was.
            with contextlib.suppress(lp.errors.KourouError):
                one.die()
            again = _answer(one, attempt=2)
            assert again[0] == before[0][0]
            assert other.where() == before[1]
            # A host is lost: what was there starts again, there or elsewhere, and nothing else does.
            with contextlib.suppress(lp.errors.KourouError):
                other.lose_host()
            assert _answer(other, attempt=2)[2] == 2
            assert one.where() == again
        until(lambda: not _left(mark), _PATIENCE_S, f"the end of {_left(mark)}")


def check_ctrl_c(options: EngineOptions) -> None:
    """Ctrl-C at the launcher ends everything, with exit code 130."""
    with _marked() as mark, _launcher(options, mark) as launcher:
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(_PATIENCE_S) == 130
        until(lambda: not _left(mark), _PATIENCE_S, f"the end of {_left(mark)}")


def check_a_killed_launcher(options: EngineOptions) -> None:
    """``kill -9`` of the launcher leaves nothing, on no host."""
    with _marked() as mark, _launcher(options, mark) as launcher:
        launcher.kill()
        launcher.wait(_PATIENCE_S)
        until(lambda: not _left(mark), _PATIENCE_S, f"the end of {_left(mark)}")


ENGINE_CHECKS: tuple[Callable[[EngineOptions], None], ...] = (check_a_run, check_ctrl_c, check_a_killed_launcher)
"""All of them."""


def _attempt() -> int:
    return lp.get_context().attempt


def _program(**group: Any) -> tuple[lp.Program, list[Any]]:
    program = lp.Program("contract")
    with program.group("server", **group):
        handles = [program.add_node(lp.CourierNode(_Server)) for _ in range(2)]
    return program, handles


def _answer(client: Any, *, attempt: int) -> tuple[str, int, int]:
    found: list[tuple[str, int, int]] = []

    def answers() -> bool:
        with contextlib.suppress(lp.errors.KourouError):
            found.append(client.where())
        return bool(found) and found[-1][2] >= attempt

    until(answers, _PATIENCE_S, f"an answer of attempt {attempt}")
    return found[-1]


@contextlib.contextmanager
def _marked() -> Iterator[str]:
    """While entered, processes that are started have this value of a variable."""
    mark = os.environ[_MARK] = secrets.token_hex(8)
    try:
        yield mark
    finally:
        del os.environ[_MARK]


def _left(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            gone = process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE
            if not gone and process.environ().get(_MARK) == mark:
                found.append(process)
    return found


@contextlib.contextmanager
def _launcher(options: EngineOptions, mark: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has launched a program, and waits."""
    code = f"from kourou.testing.contracts.engines import _wait_for_ever as f; f({pickle.dumps(options).hex()!r})"
    environ = {**os.environ, _MARK: mark}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environ) as launcher:
        try:
            assert launcher.stdout is not None
            assert any("serving" in line for line in launcher.stdout), "the launcher ended before its nodes were READY"
            yield launcher
        finally:
            launcher.kill()


def _wait_for_ever(options: str) -> None:
    program, handles = _program()
    run = lp.launch(program, pickle.loads(bytes.fromhex(options)), stop_timeline=_STOP)
    for handle in handles:
        handle.dereference().where()
    print("serving", flush=True)  # noqa: T201 - whoever started this reads it
    try:
        run.wait()
    except lp.errors.Interrupted as error:
        sys.exit(error.code)
