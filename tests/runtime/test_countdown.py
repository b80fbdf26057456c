"""What is asked of how many, and how often."""

from __future__ import annotations

from kourou.runtime.waiting.countdown import Countdown


def test_each_name_is_asked_until_it_holds_and_never_again():
    # given a hundred names, in whatever order they come to an end
    names = [f"n/{i}" for i in range(100)]
    gone: set[str] = set()
    asked: list[str] = []

    def is_gone(name):
        asked.append(name)
        return name in gone

    countdown = Countdown(names, is_gone)
    # when it is looked at after each end
    for name in sorted(names):
        assert not countdown.done()
        gone.add(name)
    # then all is said with one question a look and one a name, not with one for each pair
    assert countdown.done()
    assert countdown.done()
    assert len(asked) <= 2 * len(names)


def test_of_nobody_it_holds():
    assert Countdown((), lambda name: False).done()
