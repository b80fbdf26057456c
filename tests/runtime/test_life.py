"""Interrupting threads, and where they may not be."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import threading

import pytest

from kourou.errors import StopRequested
from kourou.runtime.interpreter import thread_interrupts
from kourou.runtime.interpreter.startup import print_failure
from kourou.runtime.interpreter.thread_interrupts import interrupt_here, interrupt_thread, shielded


def run_and_interrupt(body):
    """Run ``body(started, interrupted)`` in a thread and interrupt it while it waits; what it raised."""
    started, interrupted = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def work():
        try:
            body(started, interrupted)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(10)
    interrupt_thread(thread)
    interrupted.set()
    thread.join(10)
    assert not thread.is_alive()
    return raised


def test_an_interrupt_is_raised_at_the_end_of_the_shield():
    # Given a thread in a shield, and in one within that
    done = []

    def body(started, interrupted):
        with shielded():
            with shielded():
                started.set()
                interrupted.wait(10)
            done.append("inner")
        done.append("outer")

    # When it is interrupted there
    raised = run_and_interrupt(body)
    # Then all that the outer one covers is done, and nothing after it
    assert done == ["inner"]
    assert [type(error) for error in raised] == [StopRequested]


def test_a_signal_that_comes_within_a_shield_interrupts_at_its_end():
    # Given the thread that signals are handled in
    done = []

    def work(shield):
        with shield():
            signal.raise_signal(signal.SIGUSR2)
            done.append(shield)
        done.append("behind it")

    before = signal.signal(signal.SIGUSR2, lambda *_: interrupt_here())
    try:
        # When a signal comes there that would interrupt it, then it does so after the body of a shield, or else at once
        for shield in (shielded, contextlib.nullcontext):
            with pytest.raises(StopRequested):
                work(shield)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert done == [shielded]


def test_without_a_shield_it_is_raised_at_once():
    def body(started, interrupted):
        started.set()
        interrupted.wait(10)
        while True:
            pass

    assert [type(error) for error in run_and_interrupt(body)] == [StopRequested]


def test_an_error_of_the_body_comes_before_the_interrupt():
    def body(started, interrupted):
        with shielded():
            started.set()
            interrupted.wait(10)
            raise OSError("the port is taken")

    assert [type(error) for error in run_and_interrupt(body)] == [OSError]


@pytest.mark.parametrize("times", [1, 2])
def test_a_shield_that_nobody_hit_raises_nothing_and_leaves_nothing(times):
    for _ in range(times):
        with shielded():
            assert threading.get_ident() in thread_interrupts._shields
    assert threading.get_ident() not in thread_interrupts._shields


def test_an_exception_that_nobody_caught_goes_to_the_users_hook(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *told: seen.append(told))
    error = ValueError("no such env")
    text = print_failure(error)
    assert seen == [(ValueError, error, None)]
    assert text == "ValueError: no such env\n"
    assert capsys.readouterr().err == ""


def test_a_failure_after_the_streams_were_set_to_none_is_still_shown(monkeypatch):
    at_first = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", at_first)
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    print_failure(ValueError("no such env"))
    assert at_first.getvalue() == "ValueError: no such env\n"


def test_a_hook_that_fails_takes_nothing_of_the_failure_away(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", lambda *_: sys.exit("hook"))
    assert print_failure(ValueError("no such env")) == "ValueError: no such env\n"
    told = capsys.readouterr().err
    assert "ValueError: no such env" in told
    assert "SystemExit: hook" in told
