"""Signals of a launcher, with fake runs."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
from typing import cast

import pytest

from kourou import errors
from kourou.runtime.stopping import exit_signals


class FakeRun:
    def __init__(self):
        self.ended = False
        self.codes = []

    def interrupt(self, code, *, insist):
        self.codes.append((code, insist))

    def stop(self, reason):
        self.ended = True

    def finish_at_exit(self):
        return None


class Handler:
    """A signal handler that records what reaches it."""

    def __init__(self):
        self.seen = []

    def __call__(self, number, frame):
        self.seen.append(number)


@pytest.fixture
def own_handler():
    """A handler that was there before, and records what reaches it."""
    assert not [run for run in exit_signals._runs if not run.ended]
    exit_signals.restore_if_idle()
    handler = Handler()
    before = {number: signal.signal(number, handler) for number in exit_signals._SIGNALS}
    yield handler
    for run in exit_signals._runs:
        cast("FakeRun", run).ended = True
    exit_signals.restore_if_idle()
    for number, earlier in before.items():
        signal.signal(number, earlier)


def watched():
    run = FakeRun()
    exit_signals.watch(run)
    return run


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGXCPU, 128 + signal.SIGXCPU)],
)
def test_a_signal_reaches_every_live_run_and_raises_in_user_code(number, code, own_handler):
    first, second = watched(), watched()
    with pytest.raises(errors.Interrupted) as caught:
        signal.raise_signal(number)
    assert caught.value.code == code
    assert isinstance(caught.value, KeyboardInterrupt)
    assert not isinstance(caught.value, SystemExit)  # which IPython takes for the wish to leave
    assert str(caught.value) == "2 runs are being stopped"
    assert first.codes == second.codes == [(code, number == signal.SIGINT)]
    assert own_handler.seen == []


def test_while_a_run_is_waited_for_nothing_is_raised(own_handler):
    run = watched()
    with exit_signals.deferred(run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert run.codes == [(130, True), (130, True)]
    with pytest.raises(errors.Interrupted):
        signal.raise_signal(signal.SIGINT)


def test_who_waits_for_a_run_hears_ctrl_c_where_a_notebook_has_put_python_s_handler_back(own_handler):
    run = watched()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as IPython's kernel does for each cell
    with exit_signals.deferred(run):
        signal.raise_signal(signal.SIGINT)
    assert run.codes == [(130, True)]
    # and a handler that the user has set since stays
    signal.signal(signal.SIGINT, own_handler)
    with exit_signals.deferred(run):
        signal.raise_signal(signal.SIGINT)
    assert own_handler.seen == [signal.SIGINT]


def test_a_run_that_has_ended_hears_nothing_and_earlier_handlers_do(own_handler):
    run = watched()
    run.ended = True
    signal.raise_signal(signal.SIGINT)
    assert run.codes == []
    assert own_handler.seen == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is own_handler
    assert signal.getsignal(signal.SIGTERM) is own_handler


def test_what_is_ignored_stays_ignored(own_handler):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run = watched()
    signal.raise_signal(signal.SIGHUP)
    assert run.codes == []
    run.ended = True
    exit_signals.restore_if_idle()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_sys_exit_is_as_ever_while_a_run_is_live(own_handler):
    before = sys.exit
    run = watched()
    with pytest.raises(SystemExit) as caught:
        sys.exit(3)
    assert caught.value.code == 3
    assert repr(caught.value) == "SystemExit(3)"
    caught.value.code = 4
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is SystemExit
    assert caught.value.code == 4
    with pytest.raises(SystemExit) as caught:
        sys.exit()
    assert caught.value.code is None
    assert exit_signals._exit_code is None
    run.ended = True
    exit_signals.restore_if_idle()
    assert sys.exit is before


def test_handlers_are_put_back_when_the_last_run_has_ended(own_handler):
    first, second = watched(), watched()
    first.ended = True
    exit_signals.restore_if_idle()
    assert signal.getsignal(signal.SIGINT) is not own_handler
    second.ended = True
    exit_signals.restore_if_idle()
    assert signal.getsignal(signal.SIGINT) is own_handler


def test_a_handler_that_the_user_set_meanwhile_is_left_alone(own_handler):
    run = watched()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run.ended = True
    exit_signals.restore_if_idle()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_run_of_another_thread_takes_no_handlers(own_handler):
    thread = threading.Thread(target=watched)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is own_handler
