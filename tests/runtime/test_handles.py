"""Handles, forward handles and Deferred."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from typing import Any

import pytest

import kourou as lp
from kourou.runtime.context import context


def _server(label="server"):
    program = lp.Program("p")
    return program, program.add_node(lp.CourierNode(dict), label=label)


def test_a_handle_that_is_used_as_a_client_says_whose_it_is_and_what_to_do():
    _, handle = _server("le arner")
    with pytest.raises(AttributeError, match=r"le arner/0.*'step'.*dereference\(\)") as caught:
        handle.step(1)
    assert isinstance(caught.value, lp.errors.HandleNotResolved)
    assert not hasattr(handle, "anything")
    assert "le arner/0" in repr(handle)


def test_python_s_own_probes_of_a_handle_do_not_fail():
    _, handle = _server()
    for name in ("__array__", "__len__", "_repr_html_", "__deepcopy__"):
        assert not hasattr(handle, name)


def test_a_handle_cannot_be_dereferenced_before_its_program_runs():
    _, handle = _server()
    with pytest.raises(lp.errors.HandleNotResolved, match=r"call lp\.launch first"):
        handle.dereference()
    with pytest.raises(lp.errors.HandleNotResolved, match="never added to a program"):
        lp.CourierNode(dict).create_handle().dereference()


def test_a_handle_in_a_payload_names_its_node_and_no_run():
    _, handle = _server()
    token = context.compiling.set(True)
    try:
        travelled = pickle.loads(pickle.dumps(handle))
    finally:
        context.compiling.reset(token)
    assert travelled.node is None
    assert travelled.node_name == "server/0"
    with pytest.raises(lp.errors.NotInProgram):  # the current node's run is meant, and there is none
        travelled.dereference()


def test_a_forward_handle_stands_for_a_node_that_comes_later():
    program = lp.Program("p")
    handle = program.handle_to("later", 1)
    assert handle.node is None
    assert handle.node_name == "later/1"
    with pytest.raises(lp.errors.HandleNotResolved, match=r"handle_to\('later', 1\) was never filled"):
        handle.dereference()
    with program.group("later"):
        program.add_node(lp.CourierNode(dict))
        with pytest.raises(lp.errors.HandleNotResolved, match="never filled; there are 1 of them"):
            handle.dereference()
        with pytest.raises(lp.errors.HandleNotResolved, match=r"never filled; did you mean 'later'\?"):
            program.handle_to("latr").dereference()
        own = program.add_node(lp.CourierNode[Any](dict))
    assert handle.node is own.node


@dataclasses.dataclass
class Config:
    client: object


def test_maybe_dereference_resolves_what_can_be_and_leaves_the_rest(monkeypatch):
    _, handle = _server()
    monkeypatch.setattr(type(handle), "dereference", lambda self: "client")
    value = {"a": [handle, 1], "b": Config(handle), "c": functools.partial(print, handle)}
    resolved = lp.maybe_dereference(value)
    assert resolved["a"] == ["client", 1]
    assert resolved["b"] == Config("client")
    assert resolved["c"].args == ("client",)
    assert lp.maybe_dereference("anything") == "anything"


def test_a_deferred_is_constructed_once_and_with_resolved_arguments(monkeypatch):
    _, handle = _server()
    monkeypatch.setattr(type(handle), "dereference", lambda self: "client")
    made: list[Any] = []

    def make(*args, **kwargs):
        made.append((args, kwargs))
        return len(made)

    deferred = lp.Deferred(make, handle, [lp.Deferred(list)])
    assert lp.maybe_dereference([deferred, deferred]) == [1, 1]
    assert made == [(("client", [[]]), {})]


def test_handles_in_a_deferred_are_edges():
    program, handle = _server()
    caller = lp.PyNode(print, lp.Deferred(dict, lp.Deferred(list, handle)))
    program.add_node(caller, label="caller")
    assert [h.node_name for h in caller.input_handles] == ["server/0"]


def test_a_deferred_that_fails_says_where_it_was_written_and_may_be_tried_again():
    attempts = []

    def fail_first():
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("no such env")
        return "made"

    deferred = lp.Deferred(fail_first)
    with pytest.raises(RuntimeError, match="ValueError: no such env") as caught:
        deferred.dereference()
    assert isinstance(caught.value, lp.errors.DeferredError)
    assert isinstance(caught.value.__cause__, ValueError)
    assert "test_handles.py" in str(caught.value)
    assert "lp.Deferred(fail_first)" in str(caught.value)
    assert deferred.dereference() == "made"


def test_a_deferred_is_constructed_in_each_process_anew():
    deferred: lp.Deferred[Any] = lp.Deferred(dict, a=1)
    travelled = pickle.loads(pickle.dumps(deferred))
    assert travelled.dereference() == {"a": 1}
    assert travelled.dereference() is not deferred.dereference()
