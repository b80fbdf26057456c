"""Words of a command line as a function's arguments."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from pathlib import Path
from typing import Any, Literal

import pytest

from kourou import errors
from kourou.cli.start.function_arguments import parse_arguments


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1
    fast: bool = False

    def __post_init__(self) -> None:
        if self.lr < 0:
            raise ValueError("a learning rate is above 0")


class Color(enum.Enum):
    RED = 1
    BLUE = 2


def typed(
    actors: int = 3,
    lr: float = 0.1,
    name: str = "a",
    env: str | None = None,
    fast: bool = True,
) -> None: ...


def rich(
    config: Config,
    mode: Literal["a", "b"] = "a",
    sizes: tuple[int, ...] = (),
    out: Path = Path(),
    color: Color = Color.RED,
) -> None: ...


def untyped(a, b=None, fast=False, name="x", n=1): ...


def open_ended(first, /, second, *rest, **options): ...


def parsed(function: Any, *words: str) -> dict[str, Any]:
    args, kwargs = parse_arguments(function, words, "kourou run x:make --")
    return dict(inspect.signature(function).bind(*args, **kwargs).arguments)


DEFAULTS = {"actors": 3, "lr": 0.1, "name": "a", "env": None, "fast": True}


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--name=8"], {"name": "8"}),
        (["--actors", "5"], {"actors": 5}),
        (["--lr", "1e-4"], {"lr": 1e-4}),
        (["--lr=3"], {"lr": 3.0}),
        (["--env=None"], {"env": None}),
        (["--env", "ant"], {"env": "ant"}),
        (["--no-fast"], {"fast": False}),
        (["--fast=False"], {"fast": False}),
        (["--fast=true"], {"fast": True}),
        (["--name=true"], {"name": "true"}),
        (["8"], {"actors": 8}),
        (["-8", "-.5", "x"], {"actors": -8, "lr": -0.5, "name": "x"}),
        (["8", "--name", "b"], {"actors": 8, "name": "b"}),
    ],
)
def test_the_signature_says_what_a_word_is(words, meant):
    assert parsed(typed, *words) == {**DEFAULTS, **meant}


def test_without_words_the_function_s_own_defaults_count():
    assert parsed(typed) == {}


def test_dataclasses_choices_lists_paths_and_enums():
    words = ["--config.lr=3", "--config.fast=True", "--mode", "b", "--sizes", "1", "2", "--out=d/e", "--color", "BLUE"]

    assert parsed(rich, *words) == {
        "config": Config(lr=3.0, fast=True),
        "mode": "b",
        "sizes": (1, 2),
        "out": Path("d/e"),
        "color": Color.BLUE,
    }


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["8"], {"a": 8}),
        (["text"], {"a": "text"}),
        (["--a=[1, 2]", "--b={'k': None}"], {"a": [1, 2], "b": {"k": None}}),
        (["1", "--fast", "--name=8", "--n=0.5"], {"a": 1, "fast": True, "name": "8", "n": 0.5}),
    ],
)
def test_parameters_without_annotations_take_literals_unless_their_default_is_text_or_a_truth_value(words, meant):
    assert parsed(untyped, *words) == {"b": None, "fast": False, "name": "x", "n": 1, **meant}


def test_parameters_by_position_only_and_of_any_number_and_name():
    assert parsed(open_ended, "1", "2", "3", "x", "--some-rate=0.5") == {
        "first": 1,
        "second": 2,
        "rest": (3, "x"),
        "options": {"some_rate": 0.5},
    }
    assert parsed(open_ended, "1", "--second=2") == {"first": 1, "second": 2}


@pytest.mark.parametrize(
    ("function", "words", "message"),
    [
        (typed, ["--lrr=3"], "there is no argument --lrr; did you mean --lr?"),
        (typed, ["--zzz"], "there is no argument --zzz; there are --help, --actors, --lr"),
        (rich, ['--config={"lr": 3}'], "there is no argument --config; did you mean --config.lr?"),
        (typed, ["--lr=3", "8"], "'8' is the value of no argument"),
        (untyped, ["1", "--n=2", "--other=3"], "there is no argument --other"),
        (open_ended, ["1", "2", "--other", "3"], "there is no argument --other"),
    ],
)
def test_what_means_nothing_is_told_with_what_may_be_meant(function, words, message):
    with pytest.raises(errors.PlanError) as caught:
        parsed(function, *words)
    assert message in str(caught.value)
    assert "kourou run x:make -- --help" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "words", "message"),
    [
        (typed, ["--actors", "many"], "--actors"),
        (rich, ["--mode=c"], "'b'"),
        (untyped, [], "--a"),
        (rich, ["--config.lr=-1"], "a learning rate is above 0"),
    ],
)
def test_values_that_are_wrong_or_missing_give_2_and_name_the_argument(capsys, function, words, message):
    with pytest.raises(SystemExit) as caught:
        parsed(function, *words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_types_that_are_unknown_at_run_time_matter_only_where_there_are_words():
    def make(handle: Unknown = None) -> None: ...  # type: ignore[name-defined] # noqa: F821 - as under TYPE_CHECKING

    assert parsed(make) == {}
    with pytest.raises(errors.PlanError, match=r"name 'Unknown' is not defined; import what they name at run time"):
        parsed(make, "1")


def test_help_has_the_function_s_documentation(capsys):
    def make(actors: int = 3) -> None:
        """Train.

        Args:
            actors: how many act.
        """

    with pytest.raises(SystemExit) as caught:
        parsed(make, "--help")
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert all(text in told for text in ("usage: kourou run x:make -- [-h]", "Train.", "how many act", "default: 3"))


def test_methods_classes_and_callables():
    class Maker:
        def __init__(self, lr: float = 0.1) -> None: ...

        def __call__(self, n: int) -> None: ...

        def make(self, n: int) -> None: ...

    assert parsed(Maker, "--lr=2") == {"lr": 2.0}
    assert parsed(Maker(), "3") == {"n": 3}
    assert parsed(Maker().make, "3") == {"n": 3}
