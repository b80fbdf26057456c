"""What is known of a job without asking its engine again."""

from __future__ import annotations

import types

import pytest

from kourou.runtime.launchers.engines import batch_systems
from kourou.runtime.launchers.engines.base import JobState
from kourou.runtime.launchers.engines.batch_systems import look_at_job


def test_a_job_that_shows_itself_is_looked_at_anew_and_then_not_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an engine that says of a job that it waits, and then that it runs; it may not be asked more often
    answers = iter([JobState(state="pending"), JobState(state="running"), JobState(state="pending")])
    engine = types.SimpleNamespace(look=lambda _job: next(answers))
    monkeypatch.setattr(batch_systems, "batch_system", lambda _name: engine)
    monkeypatch.setattr(batch_systems, "_seen", {})
    monkeypatch.setattr(batch_systems, "_FRESH_S", 60.0)
    assert [look_at_job("engine", "1").state for _ in range(3)] == ["pending"] * 3
    # When the job gives a sign of life, then what was known before is out of date, and what is seen now is not
    assert [look_at_job("engine", "1", 5).state for _ in range(3)] == ["running"] * 3
    assert look_at_job("engine", "1").state == "running"
    # and likewise when it begins again
    assert look_at_job("engine", "1", 6).state == "pending"


def test_what_was_seen_of_a_job_is_forgotten_once_it_is_out_of_date(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = types.SimpleNamespace(look=lambda _job: JobState(state="running"))
    monkeypatch.setattr(batch_systems, "batch_system", lambda _name: engine)
    seen: dict[str, object] = {}
    monkeypatch.setattr(batch_systems, "_seen", seen)
    monkeypatch.setattr(batch_systems, "_FRESH_S", -1.0)
    for job in range(3):
        look_at_job("engine", str(job))
    assert len(seen) == 1
