"""Why an attempt failed, and whether there is another one."""

from __future__ import annotations

from kourou import errors
from kourou.experiments.sweep.outcomes import classify_exit
from kourou.experiments.sweep.retries import Retry
from kourou.runtime.model.records import ProcessExit
from optional import pytest


@pytest.mark.parametrize(
    ("end", "why", "words"),
    [
        (ProcessExit(code=0), "", "succeeded"),
        (ProcessExit(code=3), "exit", "exited with 3"),
        (ProcessExit(code=None, signal=11), "signal", "was killed by SIGSEGV"),
        (ProcessExit(code=None, signal=9, cause="took 9 MiB of memory, past it"), "memory", "took 9 MiB"),
        (ProcessExit(code=127, cause="could not start: no such file"), "start", "could not start: no such file"),
        (ProcessExit(code=127, last_lines=("sh: nix: not found",)), "exit", "exited with 127"),
    ],
)
def test_an_end_has_a_cause(end: ProcessExit, why: str, words: str) -> None:
    ending = classify_exit(end)
    assert (ending.ok, ending.cause) == (not why, why)
    assert ending.message.startswith(words)


def test_a_time_out_is_one_however_the_run_took_it() -> None:
    ending = classify_exit(ProcessExit(code=0), timed_out_after_s=2.5)
    assert (ending.ok, ending.cause) == (False, "timeout")
    assert "2.5 s" in ending.message


def test_a_number_of_retries_is_for_each_cause_but_one() -> None:
    retry = Retry(times=2, backoff_s=1.0, longest_backoff_s=3.0)
    assert [retry.delay_s("exit", {"exit": n}) for n in range(3)] == [1.0, 2.0, None]
    assert retry.delay_s("signal", {"exit": 2}) == 3.0
    assert retry.delay_s("start", {}) is None


def test_retries_by_cause() -> None:
    retry = Retry(times={"signal": 1})
    assert retry.delay_s("signal", {}) == 1.0
    assert retry.delay_s("exit", {}) is None


@pytest.mark.parametrize("times", [{"hunger": 1}, {"exit": -1}, -1, {"exit": True}])
def test_what_means_nothing_is_refused(times: object) -> None:
    with pytest.raises(errors.PlanError, match="retries"):
        Retry(times=times)  # type: ignore[arg-type] # that is the mistake
