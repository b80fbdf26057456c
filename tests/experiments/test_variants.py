"""Variants as rlpyt makes them, with mistakes told where the original went on or crashed."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, strategies as st

from kourou.errors import KourouError
from kourou.experiments.describe.variants import (
    VARIANT_FILE,
    VariantLevel,
    load_variant,
    make_variants,
    save_variant,
    to_dotted,
    update_config,
)

RATES = VariantLevel([("agent", "lr"), ("agent", "batch")], [(0.1, 32), (0.01, 256)], ["fast", "slow"])
GAMES = VariantLevel([("env", "game")], [("pong",), ("qbert",)], ["pong", "qbert"])


class TestMaking:
    def test_the_first_level_varies_slowest(self) -> None:
        variants, log_dirs = make_variants(RATES, GAMES)
        assert log_dirs == ["fast/pong", "fast/qbert", "slow/pong", "slow/qbert"]
        assert variants[1] == {"agent": {"lr": 0.1, "batch": 32}, "env": {"game": "qbert"}}

    def test_no_levels_make_one_empty_variant(self) -> None:
        assert make_variants() == ([{}], [""])

    def test_variants_share_nothing(self) -> None:
        variants, _ = make_variants(VariantLevel([("sizes",)], [([64, 64],)], ["one"]), GAMES)
        variants[0]["sizes"].append(1)
        assert variants[1]["sizes"] == [64, 64]

    def test_two_variants_in_one_folder_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"Names must be unique\. .* 'a'"):
            make_variants(VariantLevel([("x",)], [(1,), (2,)], ["a", "a"]))

    @pytest.mark.parametrize(
        ("level", "message"),
        [
            (VariantLevel(["lr"], [(1,)], ["a"]), "a key is a tuple of names"),
            (VariantLevel([("lr",)], [], []), "has no values"),
            (VariantLevel([], [()], ["a"]), "has no keys"),
            (VariantLevel([("lr",)], [(1,)], ["a", "b"]), "1 values, but 2 dir_names"),
            (VariantLevel([("a", "lr"), ("b",)], [(1,)], ["a"]), r"1 values for 2 keys \(a\.lr, b\)"),
            (VariantLevel([("lr",)], ["x"], ["a"]), "one value for each key, got 'x'"),
            (VariantLevel([("lr",)], [(1,)], ["/etc"]), "no folder below"),
            (VariantLevel([("lr",)], [(1,)], ["a/../../b"]), "no folder below"),
            (VariantLevel([("lr",)], [(1,)], [""]), "no folder below"),
        ],
    )
    def test_mistakes_name_the_level(self, level: VariantLevel, message: str) -> None:
        with pytest.raises(ValueError, match=f"level 1.*{message}") as caught:
            make_variants(GAMES, level)
        assert isinstance(caught.value, KourouError)

    def test_a_key_that_two_levels_set_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"level 1 sets env\.game, which an earlier level sets"):
            make_variants(GAMES, GAMES)

    def test_a_key_inside_a_value_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"env is a value, so env\.game cannot"):
            make_variants(VariantLevel([("env",)], [(1,)], ["a"]), GAMES)
        with pytest.raises(TypeError, match="env is a section"):
            make_variants(GAMES, VariantLevel([("env",)], [(1,)], ["a"]))


class TestFiles:
    def test_what_was_saved_is_loaded(self, tmp_path: Path) -> None:
        folder = tmp_path / "a b" / "ü\n'\"$HOME"
        save_variant({"agent": {"lr": 0.1, "name": "ü\n$x"}}, folder)
        assert load_variant(folder) == {"agent": {"lr": 0.1, "name": "ü\n$x"}}
        assert [path.name for path in folder.iterdir()] == [VARIANT_FILE]

    def test_numpy_becomes_plain(self, tmp_path: Path) -> None:
        save_variant({"a": np.float64(0.5), "b": np.arange(2), "c": (1, 2), "d": tmp_path}, tmp_path)
        assert load_variant(tmp_path) == {"a": 0.5, "b": [0, 1], "c": [1, 2], "d": str(tmp_path)}

    def test_what_json_cannot_hold_leaves_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="is of type object"):
            save_variant({"a": object()}, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_what_is_no_variant_names_the_file(self, tmp_path: Path) -> None:
        for text in ("{", "[1]"):
            (tmp_path / VARIANT_FILE).write_text(text, encoding="utf-8")
            with pytest.raises(ValueError, match=VARIANT_FILE):
                load_variant(tmp_path)
        with pytest.raises(FileNotFoundError):
            load_variant(tmp_path / "none")


class TestUpdating:
    DEFAULT: ClassVar[dict[str, Any]] = {"agent": {"lr": 0.1, "sizes": [1, 2]}, "seed": None}

    def test_the_default_is_left_alone(self) -> None:
        before = copy.deepcopy(self.DEFAULT)
        config = update_config(self.DEFAULT, {"agent": {"sizes": [3]}, "seed": 5})
        assert config == {"agent": {"lr": 0.1, "sizes": [3]}, "seed": 5}
        config["agent"]["sizes"].append(4)
        assert before == self.DEFAULT

    def test_an_unknown_key_gets_a_guess(self) -> None:
        with pytest.raises(KeyError) as caught:
            update_config(self.DEFAULT, {"agent": {"lrr": 1}})
        assert str(caught.value) == "Variant key agent.lrr not found in default config; did you mean 'lr'?"
        with pytest.raises(KeyError, match="it has agent, seed"):
            update_config(self.DEFAULT, {"zzz": 1})

    @pytest.mark.parametrize("variant", [{"agent": 1}, {"seed": {"a": 1}}, {"agent": {"lr": {}}}])
    def test_sections_and_values_do_not_mix(self, variant: dict[str, object]) -> None:
        with pytest.raises(TypeError, match=r"is a section in the (config|variant), but a value in the"):
            update_config(self.DEFAULT, variant)


NAMES = st.text(min_size=1).filter(lambda name: "." not in name)
TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers())),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=2),
    max_leaves=4,
)


def nested(params: Mapping[str, object]) -> dict[str, object]:
    """What dotted names stand for."""
    made: dict[str, Any] = {}
    for name, value in params.items():
        *sections, last = name.split(".")
        functools.reduce(lambda section, part: section.setdefault(part, {}), sections, made)[last] = value
    return made


@given(st.dictionaries(NAMES, TREES, max_size=3))
def test_dotted_names_and_files_keep_every_variant(variant: dict[str, object]) -> None:
    assert nested(to_dotted(variant)) == variant
    assert json.loads(json.dumps(variant)) == variant


@pytest.mark.parametrize("key", ["a.b", "", 1])
def test_keys_that_dots_would_blur_are_refused(key: object) -> None:
    with pytest.raises(ValueError, match="cannot be part of a dotted name"):
        to_dotted({key: 1})  # type: ignore[dict-item] # the mistake under test
