"""What the children of a process are given."""

from __future__ import annotations

import multiprocessing
import multiprocessing.spawn

from kourou.script import children


def _given():
    calls = multiprocessing.spawn.get_preparation_data("a child").get("kourou")
    return None if calls is None else [arguments for _, arguments in calls.__reduce__()[1][-1]]


def _one():
    return print, (1,)


def test_what_was_given_before_is_given_again():
    assert _given() is None
    with children.calling_first("script", _one):
        with children.calling_first("script", lambda: (print, (2,))):
            assert _given() == [(2,)]
        assert _given() == [(1,)]
    assert _given() is None


def test_two_that_give_the_same_end_in_any_order():
    # Given two runs that give their children the same, of which the first ends before the second
    first, second = children.calling_first("script", _one), children.calling_first("script", _one)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _given() == [(1,)]
    second.__exit__(None, None, None)
    assert _given() is None
