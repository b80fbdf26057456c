"""Walking nested values: every leaf is found, named by its path, and can be replaced."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import types
from typing import Any, NamedTuple

import attrs
import pydantic
import pytest
from hypothesis import given, settings, strategies as st

from fuzzing import examples
from kourou.nested import instance_of, iterate_leaves, map_leaves, parts_of


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    seed: Any
    derived: Any = dataclasses.field(init=False, default=None)


@dataclasses.dataclass
class Plain:
    inner: Any
    other: int = 7


@dataclasses.dataclass(slots=True)
class Slotted:
    value: Any


@attrs.define
class Attrs:
    rate: float
    inner: Any


@attrs.frozen
class FrozenAttrs:
    inner: Any
    doubled: Any = attrs.field(init=False, default=7)


class Model(pydantic.BaseModel):
    inner: Any
    rate: float = 0.5


class FrozenModel(pydantic.BaseModel, frozen=True):
    inner: Any


class Opaque:
    def __init__(self, hidden):
        self.hidden = hidden


MARK = object()
CASES = {
    "dict": ({"a": MARK, "b": [1]}, "['a']"),
    "mixed-keys": ({"a": 1, 2: MARK, None: 3}, "[2]"),
    "list": ([0, 1, MARK], "[2]"),
    "tuple": ((0, (MARK,)), "[1][0]"),
    "named-tuple": (Pair(0, MARK), ".right"),
    "dataclass": (Plain(MARK), ".inner"),
    "frozen-dataclass": (Frozen(MARK), ".seed"),
    "slotted-dataclass": (Slotted(MARK), ".value"),
    "partial": (functools.partial(print, 1, MARK, end=""), ".args[1]"),
    "partial-keyword": (functools.partial(print, end=MARK), ".keywords['end']"),
    "nested": ({"env": [Plain(Pair(0, {"x": MARK}))]}, "['env'][0].inner.right['x']"),
    "default-dict": (collections.defaultdict(list, a=MARK), "['a']"),
    "attrs": (Attrs(0.5, MARK), ".inner"),
    "frozen-attrs": (FrozenAttrs(MARK), ".inner"),
    "pydantic": (Model(inner=MARK), ".inner"),
    "frozen-pydantic": (FrozenModel(inner=MARK), ".inner"),
    "namespace": (types.SimpleNamespace(a=1, b=MARK), ".b"),
    "arguments": (argparse.Namespace(handle=MARK), ".handle"),
    "deque": (collections.deque([1, MARK], maxlen=5), "[1]"),
    "view": (types.MappingProxyType({"a": MARK}), "['a']"),
    "partial-func": (functools.partial(print, func=MARK), ".keywords['func']"),
    "ordered-dict": (collections.OrderedDict(b=1, a=MARK), "['a']"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_leaf_is_found_and_named_by_its_path(case):
    value, path = CASES[case]
    assert [found for found, leaf in iterate_leaves(value, "args") if leaf is MARK] == [f"args{path}"]


@pytest.mark.parametrize("case", CASES)
def test_a_leaf_is_replaced_in_a_container_of_the_same_type_and_the_original_is_left_alone(case):
    value, path = CASES[case]
    new = map_leaves(lambda leaf: "new" if leaf is MARK else leaf, value)
    assert type(new) is type(value)
    assert [found for found, leaf in iterate_leaves(new) if isinstance(leaf, str) and leaf == "new"] == [path]
    assert [found for found, leaf in iterate_leaves(value) if leaf is MARK] == [path]


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_change_is_not_copied(case):
    value, _ = CASES[case]
    assert map_leaves(lambda leaf: leaf, value) is value


def test_sets_are_walked_and_replaced():
    assert map_leaves(lambda leaf: leaf + 1, {1, 2}) == {2, 3}
    assert map_leaves(lambda leaf: leaf + 1, frozenset({1})) == frozenset({2})
    assert [leaf for _, leaf in iterate_leaves({5})] == [5]


def test_a_default_dict_keeps_its_factory_and_a_frozen_dataclass_its_other_fields():
    original = collections.defaultdict(list, a=MARK)
    new = map_leaves(lambda leaf: 1 if leaf is MARK else leaf, original)
    assert new["missing"] == []
    assert "missing" not in original
    frozen = Frozen(MARK)
    object.__setattr__(frozen, "derived", 9)
    assert map_leaves(lambda leaf: 1 if leaf is MARK else leaf, frozen).derived == 9


def test_what_is_no_field_is_kept():
    model = map_leaves(lambda leaf: 1 if leaf is MARK else leaf, Model(inner=MARK, rate=0.1))
    assert (model.inner, model.rate, model.model_fields_set) == (1, 0.1, {"inner", "rate"})
    assert map_leaves(lambda leaf: 1 if leaf is MARK else leaf, FrozenAttrs(MARK)) == FrozenAttrs(1)
    limited = map_leaves(lambda leaf: leaf + 1, collections.deque([1, 2], maxlen=2))
    assert (limited, limited.maxlen) == (collections.deque([2, 3]), 2)


@pytest.mark.parametrize(
    "value", [Frozen(1), Slotted(1), Attrs(0.5, 1), FrozenAttrs(1), Model(inner=1), Pair(1, 2)], ids=repr
)
def test_an_instance_is_made_of_its_fields_alone(value):
    parts = parts_of(value)
    assert parts is not None
    assert instance_of(type(value), parts.names, parts.values) == value


def test_an_object_that_says_it_has_every_attribute_is_a_leaf():
    class Client:
        def __getattr__(self, name):
            return print

    client = Client()
    assert list(iterate_leaves(client, "x")) == [("x", client)]
    assert map_leaves(lambda leaf: leaf, client) is client


def test_opaque_objects_classes_and_strings_are_leaves():
    for value in (Opaque(MARK), Plain, "text", b"bytes", range(3), 1.5, None, print):
        assert list(iterate_leaves(value, "x")) == [("x", value)]


def test_a_container_that_contains_itself_is_entered_once():
    loop: list = [1]
    loop.append({"self": loop})
    assert [leaf for _, leaf in iterate_leaves(loop)] == [1]
    assert map_leaves(lambda leaf: leaf + 1, loop)[0] == 2


def test_the_same_container_in_two_places_is_found_in_both():
    shared = [MARK]
    assert [path for path, _ in iterate_leaves([shared, shared])] == ["[0][0]", "[1][0]"]


_NESTED = st.recursive(
    st.integers(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner) | st.builds(Plain, inner),
    max_leaves=20,
)


@settings(max_examples=examples(40))
@given(_NESTED)
def test_every_leaf_is_replaced_once_and_in_order(value):
    leaves = [leaf for _, leaf in iterate_leaves(value)]
    doubled = map_leaves(lambda leaf: leaf * 2, value)
    assert [leaf for _, leaf in iterate_leaves(doubled)] == [leaf * 2 for leaf in leaves]
