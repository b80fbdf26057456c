"""A program in which nobody works any more, and servers go on, says so."""

from __future__ import annotations

import pytest

from kourou.runtime.graph.failure_policies import Restart
from kourou.runtime.model.instructions import Warn
from kourou.runtime.plan.plan import Placement
from runtime.playing import Play, add, exited, finished, node, plan_of, ready, remove, stop

SERVER = node("server/0", serves_only=True)


def told(instructions):
    """What is said of it; nodes that are not ready are another matter."""
    return [one.text for one in instructions if isinstance(one, Warn) and "to be ready" not in one.text]


def begun(*nodes):
    """A program whose nodes are ready."""
    play = Play(plan_of(*nodes))
    play.wait()
    for each in nodes:
        play.tell(ready(each.name, serves_only=each.serves_only))
    return play


def tell_all(play, events):
    return [one for event in events for one in play.tell(event)]


def test_servers_that_are_left_are_named_once_ten_seconds_after_the_last_that_worked():
    # Given
    play = begun(SERVER, node("a/0"), node("b/0"))
    tell_all(play, finished("a/0"))
    assert told(play.wait(100)) == []
    # When the last one ends
    tell_all(play, finished("b/0"))
    assert told(play.wait(9.9)) == []
    # Then it is said, once
    (text,) = told(play.wait(1000))
    assert text == (
        "kourou: every node with work of its own has ended; server/0 only serves, and goes on until somebody calls "
        "lp.stop(), or: kourou stop run-1"
    )


def test_many_servers_are_counted_and_colocations_are_not_named():
    inside = [node("c/0:s", parent="c/0", placement=Placement.IN_PARENT, serves_only=True)]
    many = [node(f"s/{i}", serves_only=True) for i in range(6)]
    play = begun(node("a/0"), node("c/0", serves_only=True), *inside, *many)
    tell_all(play, finished("a/0"))
    (text,) = told(play.wait(20))
    assert "ended; c/0:s, s/0, s/1, s/2, s/3 and 2 more only serve, and go on until" in text


@pytest.mark.parametrize(
    ("nodes", "events"),
    [
        pytest.param([SERVER, node("server/1", serves_only=True)], [], id="nobody ever had work"),
        pytest.param(
            [SERVER, node("s/0", serves_only=True, on_failure="ignore")], [exited("s/0", 1)], id="a server that failed"
        ),
        pytest.param([SERVER, node("a/0", on_failure=Restart(backoff_s=50))], [exited("a/0", 1)], id="it will be back"),
        pytest.param([SERVER, node("a/0")], [*finished("a/0"), add(node("a/1"))], id="somebody came"),
        pytest.param([SERVER, node("a/0")], [*finished("a/0"), stop()], id="the program stops"),
        pytest.param([SERVER, node("a/0")], [remove("a/0"), *finished("a/0")], id="somebody took them away"),
        pytest.param([SERVER, node("a/0")], [*finished("a/0"), *finished("server/0")], id="nobody is left"),
    ],
)
def test_nothing_is_said_where_that_is_meant_or_will_not_last(nodes, events):
    play = begun(*nodes)
    done = tell_all(play, events)
    assert told([*done, *play.wait(40)]) == []


def test_it_is_said_again_of_nodes_that_were_added_meanwhile():
    play = begun(SERVER, node("a/0"))
    tell_all(play, finished("a/0"))
    assert len(told(play.wait(20))) == 1
    play.tell(add(node("a/1")))
    play.wait()
    tell_all(play, finished("a/1"))
    assert len(told(play.wait(20))) == 1
