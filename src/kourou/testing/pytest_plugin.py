"""The pytest fixture ``launch``: programs in tests.

Installed with kourou; a test only has to ask for it::

    def test_the_learner_learns(launch):
        program = make_program(steps=10)
        run = launch(program)                     # as threads; launch(program, "test_mp") for processes
        assert program.handle_to("learner").dereference().loss() < 1.0

- When a node fails, the test fails, with the node's own error and traceback: whatever the test itself was doing, and
  even if all that it asserted holds. A test that expects the failure takes it: ``pytest.raises(ProgramFailed)``
  around ``run.wait()``.
- When the test ends, its programs are stopped. A process or a thread that is left after that is an error.
- Runs keep their folders in a temporary folder of pytest's, and what nodes print is captured with the test's output.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kourou import errors

if TYPE_CHECKING:
    from kourou.runtime.graph.program import Program
    from kourou.runtime.launch.run import Run

__all__ = ["Launches", "launch"]

_GONE_WITHIN_S = 5.0  # an end takes a moment; what is there after this long was left behind
_POLL_S = 0.02


class Launches:
    """The programs that one test has launched.

    Args:
        folder: where their run folders are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[Run] = []
        self._threads_before = set(threading.enumerate())

    def launch(self, program: Program, launch_type: str | None = None, **options: Any) -> Run:
        """As ``lp.launch``, but as threads (``test_mt``) by default, and stopped with the test."""
        from kourou.runtime.launch.launch import launch  # noqa: PLC0415 - the plugin is loaded by every pytest of the user's

        run = launch(program, launch_type or "test_mt", **{"run_dir": self._folder, **options})
        self._runs.append(run)
        return run

    def finish(self) -> errors.ProgramFailed | None:
        """Stop all that runs; the first failure that the test was not told of."""
        untold = []
        for run in reversed(self._runs):
            run.stop("the test has ended")
            text = run.finish_at_exit()
            if text is not None:
                untold.append(errors.ProgramFailed(text, run.failures))
                with contextlib.suppress(errors.Interrupted):
                    run.wait(raise_error=False)  # it counts as told from here on
        return untold[-1] if untold else None

    def left_behind(self) -> list[str]:
        """A line for each process and thread of the ended programs that is still there after a moment."""
        deadline = time.monotonic() + _GONE_WITHIN_S
        while (left := self._present()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)  # processes and threads alike: there is no one thing to wait on
        return left

    def _present(self) -> list[str]:
        from kourou.runtime.process import process_table  # noqa: PLC0415 - the plugin is loaded by every pytest

        processes = [pid for run in self._runs for pid in process_table.escaped_from(f"{run.run_id}:")]
        threads = [t for t in threading.enumerate() if t not in self._threads_before] if self._runs else []
        return [*(f"process {pid}" for pid in processes), *(f"thread {thread.name}" for thread in threads)]


_LAUNCHES = pytest.StashKey[Launches]()


@pytest.fixture
def launch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Run]]:
    """``launch(program, launch_type="test_mt", **options) -> Run``; the options are those of ``lp.launch``."""
    launches = Launches(tmp_path_factory.mktemp("kourou"))
    request.node.stash[_LAUNCHES] = launches
    yield launches.launch
    failure = launches.finish()  # of a test that never began, because another fixture failed
    if left := launches.left_behind():
        pytest.fail("left behind by the programs of this test:\n" + "\n".join(left), pytrace=False)
    if failure is not None:
        raise failure


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Stop the test's programs within the test, so that their failure is the test's."""
    try:
        result = yield
    except Exception as error:
        failure = _finish(pyfuncitem)
        if failure is not None:
            raise failure from error  # the node failed first, and the test most likely because of it
        raise
    except BaseException:  # skipped, or Ctrl-C
        _finish(pyfuncitem)
        raise
    failure = _finish(pyfuncitem)
    if failure is not None:
        raise failure
    return result


def _finish(item: pytest.Function) -> errors.ProgramFailed | None:
    launches = item.stash.get(_LAUNCHES, None)
    return launches.finish() if launches is not None else None
