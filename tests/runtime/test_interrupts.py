"""Signals of a launcher, with fake runs."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import signal
import sys
import threading
from typing import cast

import pytest

from kourou import errors
from kourou.runtime.interpreter import thread_interrupts
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
    with exit_signals.beginning(run):
        pass
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


class BeginsAndIsInterrupted(FakeRun):
    """A run that gets a Ctrl-C while it begins, at one of the moments at which the interpreter looks for signals.

    These are where a function begins or goes on, and after a call.
    """

    def __init__(self, moment):
        super().__init__()
        self.begun = False
        self.raised = None
        self._moments = itertools.count()
        self._moment = moment
        sys.setprofile(self._profile)
        try:
            with exit_signals.beginning(self):
                self.begun = True
        except KeyboardInterrupt as error:
            self.raised = type(error)
        finally:
            sys.setprofile(None)

    def _profile(self, frame, event, arg):
        if (
            event in {"call", "c_return"}
            and frame.f_code.co_filename in {exit_signals.__file__, thread_interrupts.__file__}
            and next(self._moments) == self._moment
        ):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="there an error of a profile function passes over a generator's finally",
)
def test_ctrl_c_at_any_moment_leaves_no_run_that_only_half_began(own_handler):
    seen = set()
    for moment in itertools.count():
        # Given a run that begins, When Ctrl-C comes at one of the moments of that
        exit_signals.restore_if_idle()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run = BeginsAndIsInterrupted(moment)
        # Then it has begun, and stops, or was never heard of
        assert run.begun is (run in exit_signals._runs), moment
        run.ended = True
        seen.add((run.raised, tuple(run.codes)))
        if run.raised is None:
            break
    assert seen == {(KeyboardInterrupt, ()), (errors.Interrupted, ((130, True),)), (None, ())}


def test_a_run_that_could_not_begin_is_nobody_s(own_handler):
    run = FakeRun()
    with pytest.raises(RuntimeError), exit_signals.beginning(run):
        raise RuntimeError("can't start new thread")
    signal.raise_signal(signal.SIGTERM)
    assert run.codes == []
    assert own_handler.seen == [signal.SIGTERM]


def test_a_stop_of_the_node_that_launches_comes_when_the_run_has_begun(own_handler):
    run, begun = FakeRun(), False
    with contextlib.suppress(errors.StopRequested):
        with exit_signals.beginning(run):
            thread_interrupts.interrupt_thread(threading.current_thread())
            begun = True
        pytest.fail("the stop was lost")
    assert begun
    assert run in exit_signals._runs
