"""Sample Factory's descriptions: what the original yields, and what it crashed on or let pass."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from kourou.errors import KourouError
from kourou.experiments.describe.descriptions import Experiment, ParamGrid, ParamList, RunDescription
from kourou.experiments.describe.naming import folder_name, shorthands
from kourou.experiments.describe.parameters import ParamGenerator
from kourou.experiments.describe.runs import RunSpec, check_runs
from kourou.experiments.describe.styles import arguments
from kourou.runtime.graph.program import Program

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "data" / "golden" / "sample_factory_descriptions.json").read_text(encoding="utf-8")
)
HOSTILE = ["two words", "a'b\"c", "$HOME `id`", "ü→", "line\nbreak", "", "--flag", "a=b", "*", "\\"]


def describe(*experiments: Experiment, **options: Any) -> RunDescription:
    return RunDescription("run", experiments, **options)


class Opaque:
    def __call__(self) -> None: ...


def train(lr: float, seed: int) -> None:
    """Stands for a function that is run."""


def make_program(lr: float) -> Program:
    return Program(f"train-{lr}")


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["name"])
def test_commands_names_and_folders_are_the_originals(golden: Mapping[str, Any]) -> None:
    params = ParamGrid(golden["params"]) if golden["kind"] == "grid" else ParamList(golden["params"])
    experiment = Experiment(golden["base_name"], golden["cmd"], params.generate_params(randomize=False))
    description = RunDescription(golden["run_name"], [experiment], **golden["description_kwargs"])
    description.experiment_suffix = golden["suffix"]
    got = list(description.generate_experiments(golden["train_dir"], makedirs=False))
    assert [list(run) for run in got] == golden["experiments"]
    # and the arguments that we start say the same
    for run, (command, name, root_dir, _) in zip(description.generate_runs(golden["train_dir"]), got, strict=True):
        assert run.command is not None
        assert (" ".join(run.command), run.name) == (command, name)
        assert run.folder == f"{golden['train_dir']}/{root_dir}/{name}"


def test_the_pages_examples_are_among_them() -> None:
    assert [len(golden["experiments"]) for golden in GOLDEN][:2] == [90, 16]


class TestParameters:
    MIXED = (("a", [True, 16]), (("b", "c"), [(None, 0.5), ("x", [1, 2])]))

    def test_the_first_parameter_varies_slowest(self) -> None:
        got = list(ParamGrid(self.MIXED).generate_params())
        assert [(p["a"], p["b"], p["c"]) for p in got] == [
            (True, None, 0.5),
            (True, "x", [1, 2]),
            (16, None, 0.5),
            (16, "x", [1, 2]),
        ]

    def test_shuffling_keeps_types_and_follows_its_seed(self) -> None:
        grid = ParamGrid([("a", [True, 2, "3", 4.5, None]), (("b", "c"), [(1, False), ("x", 2)])])
        plain, shuffled = list(grid.generate_params()), list(grid.generate_params(randomize=True))
        assert shuffled != plain
        assert shuffled == list(grid.generate_params(randomize=True))
        assert shuffled != list(grid.generate_params(randomize=True, seed=1))
        assert sorted(map(repr, shuffled)) == sorted(map(repr, plain))

    def test_a_list_is_shuffled_by_default_and_a_grid_is_not(self) -> None:
        combinations = [{"a": i} for i in range(20)]
        assert list(ParamList(combinations).generate_params()) != combinations
        assert list(ParamGrid([("a", range(20))]).generate_params()) == combinations
        assert Experiment("e", "c", ParamList(combinations)).params == combinations

    def test_a_condition_leaves_combinations_out(self) -> None:
        grid = ParamGrid([("a", [1, 2, 3]), ("b", [1, 2, 3])], where=["a <= b", lambda params: params["b"] != 2])
        assert [(p["a"], p["b"]) for p in grid.generate_params()] == [(1, 1), (1, 3), (2, 3), (3, 3)]
        assert list(ParamList([{"a": 1}, {"a": 2}], where="a > 1").generate_params()) == [{"a": 2}]

    def test_nothing_generates_nothing(self) -> None:
        assert list(ParamGenerator().generate_params()) == list(ParamGrid([]).generate_params()) == []

    @pytest.mark.parametrize(
        ("grid", "message"),
        [
            ([("a", [1]), ("a", [2])], "the grid has parameter 'a' twice"),
            ([("a", [1]), (("b", "a"), [(1, 2)])], "parameter 'a' twice"),
            ([("a", [])], "no values for a"),
            ([("a", "xyz")], "the values of a are a list, got 'xyz'"),
            ([("a", 5)], "are a list, got 5"),
            ([(("a", "b"), [(1, 2), (1,)])], r"\(a, b\) need 2 values at a time, got \(1,\)"),
            ([(("a", "b"), ["xy"])], "got 'xy'"),
            ([("a b", [1])], "a text without spaces"),
            ([("a=b", [1])], "a text without spaces"),
            ([("", [1])], "got ''"),
        ],
    )
    def test_mistakes_are_told(self, grid: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            ParamGrid(grid)
        assert isinstance(caught.value, KourouError)

    def test_a_list_holds_dictionaries(self) -> None:
        with pytest.raises(ValueError, match=r"combination 1 is a dictionary of parameters, got \[1\]"):
            ParamList([{"a": 1}, [1]])  # type: ignore[list-item] # the mistake under test


class TestNames:
    def test_short_names(self) -> None:
        names = ["seed", "env", "learning_rate", "use_rnn", "algo.lr", "recurrence", "model.hidden-size"]
        got = shorthands(dict.fromkeys(names))
        assert list(got.values()) == ["see", "env", "l.rat", "u.rnn", "a.lr", "rec", "m.h.siz"]

    @pytest.mark.parametrize("name", ["a__b", "_a", ".a", "a-", "a._b"])
    def test_an_empty_word_is_told(self, name: str) -> None:
        experiment = Experiment("e", "c", [{name: 1}])
        with pytest.raises(ValueError, match="has an empty word"):
            list(describe(experiment).generate_experiments("d", makedirs=False))
        assert len(describe(experiment, customize_experiment_name=False).generate_runs("d")) == 1

    @given(st.text())
    def test_every_name_becomes_that_of_one_folder(self, name: str) -> None:
        folder = folder_name(name)
        assert "/" not in folder
        assert folder not in {"", ".", ".."}
        assert folder.isprintable()
        assert len(folder.encode()) <= 200
        assert folder_name(folder) == folder

    def test_long_names_stay_apart(self, tmp_path: Path) -> None:
        names = [folder_name("ü" * 300 + end) for end in "ab"]
        assert names[0] != names[1]
        for name in names:
            (tmp_path / name).mkdir()


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("python", ["--on=True", "--off=False", "--none=None", "--text=True", "--one=1"]),
        ("lower", ["--on=true", "--off=false", "--text=True", "--one=1"]),
        ("flags", ["--on", "--no-off", "--text=True", "--one=1"]),
    ],
)
def test_truth_values_are_written_as_the_program_wants_them(style: Any, expected: list[str]) -> None:
    params = {"on": True, "off": False, "none": None, "text": "True", "one": 1}
    (run,) = describe(Experiment("e", "c", [params]), value_style=style).generate_runs("d")
    assert run.command is not None
    assert list(run.command[1:-2]) == expected


@pytest.mark.parametrize(
    ("form", "expected", "variables"),
    [
        ("--key=value", ["--lr=-0.1", "--on=True", "--who=a b"], {}),
        ("--key value", ["--lr", "-0.1", "--on", "True", "--who", "a b"], {}),
        ("key=value", ["lr=-0.1", "on=true", "who='a b'"], {}),
        ("environment", [], {"lr": "-0.1", "on": "True", "who": "a b"}),
    ],
)
def test_a_command_gets_its_parameters_in_the_form_that_it_reads(
    form: Any, expected: list[str], variables: dict[str, str]
) -> None:
    experiment = Experiment("e", "c", [{"lr": -0.1, "on": True, "who": "a b"}], {"HOME": "/h"})
    made = RunDescription("run", [experiment], None, None, form=form).generate_runs("d")
    assert [run.command for run in made] == [("c", *expected)]
    assert made[0].env == {"HOME": "/h", **variables}
    # And what it is written like makes no other run of it
    assert made[0].run_id == describe(experiment).generate_runs("d")[0].run_id


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/tmp/a.b", "/tmp/a.b"),
        ("true", "'true'"),
        ("1e3", "'1e3'"),
        ("", "''"),
        ("it's", r"'it\'s'"),
        ("a\\", r"'a\\'"),
        ("${x}", "'${x}'"),
        ([1, "a,b", None], "[1,'a,b',null]"),
        ({"a": False, "b": "x y"}, "{a:false,b:'x y'}"),
    ],
)
def test_values_for_hydra_are_what_its_grammar_reads_back(value: Any, expected: str) -> None:
    assert arguments({"k": value}, prefix="", style="hydra") == [f"k={expected}"]


class TestUniqueness:
    def test_two_experiments_of_one_name_are_refused_before_anything_is_made(self, tmp_path: Path) -> None:
        description = describe(Experiment("e", "a"), Experiment("e", "b"))
        with pytest.raises(ValueError, match=r"two runs are called '00_e' in run/e_"):
            description.generate_experiments(str(tmp_path))
        with pytest.raises(ValueError, match="would share the folder"):
            description.generate_runs(str(tmp_path))
        assert not list(tmp_path.iterdir())

    def test_the_same_run_twice_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"runs '00_e_a_1' and '01_e_a_1' are the same: {'a': 1}; .* repeats"):
            describe(Experiment("e", "c", [{"a": 1}, {"a": 1}])).generate_runs("d")

    def test_experiments_of_other_names_that_do_the_same_are_two_in_whatever_order(self) -> None:
        one, other, third = (Experiment(name, "c", [{"a": 1}]) for name in ("one", "other", "third"))
        alone = describe(third).generate_runs("d")[0].run_id
        first = {run.name: run.run_id for run in describe(one, other).generate_runs("d")}
        assert len(set(first.values())) == 2
        assert {run.name: run.run_id for run in describe(other, one).generate_runs("d")} == first
        assert alone not in first.values()
        assert describe(third, Experiment("third", "x")).generate_runs("d")[0].run_id == alone

    def test_values_that_only_look_alike_are_different_runs(self) -> None:
        values = [1, True, "1", 1.0, "True", None, "None", [1], {"a": 1}]
        assert len(describe(Experiment("e", "c", [{"a": value} for value in values])).generate_runs("d")) == len(values)

    def test_folders_are_made_lazily_and_only_if_asked(self, tmp_path: Path) -> None:
        description = describe(Experiment("e", "c"))
        runs = description.generate_experiments(str(tmp_path))
        assert not list(tmp_path.iterdir())
        next(runs)
        assert (tmp_path / "run" / "e_").is_dir()


class TestRuns:
    GRID = (("lr", [0.1, 0.01]), ("game", ["pong", "qbert"]))

    def test_hostile_values_reach_the_child_as_they_are(self) -> None:
        # given values that a shell, or splitting at spaces, would break
        echo = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
        runs = describe(Experiment("e", echo, [{"value": value} for value in HOSTILE])).generate_runs("a b/$d")
        # when each command is run
        outputs = [json.loads(subprocess.check_output(run.command or ())) for run in runs]
        # then the child got one argument for each value, and names that folders can have
        assert [output[0] for output in outputs] == [f"--value={value}" for value in HOSTILE]
        assert {output[2] for output in outputs} == {"--train_dir=a b/$d/run/e_"}
        assert not any("\n" in run.name for run in runs)

    def test_a_command_in_text_is_split_as_a_shell_does(self) -> None:
        (run,) = describe(Experiment("e", "python  'my train.py' --tag=\"a b\"")).generate_runs("d")
        assert run.command is not None
        assert run.command[:3] == ("python", "my train.py", "--tag=a b")

    def test_repeats_come_breadth_first_with_seeds_of_their_own(self) -> None:
        runs = describe(Experiment("e", "c", ParamGrid(self.GRID))).generate_runs("d", repeats=3)
        assert [(run.repeat, run.params["lr"]) for run in runs[:5]] == [
            (0, 0.1),
            (0, 0.1),
            (0, 0.01),
            (0, 0.01),
            (1, 0.1),
        ]
        assert len({run.seed for run in runs}) == len({run.folder for run in runs}) == 12
        assert all(run.seed is not None and 0 <= run.seed < 2**31 for run in runs)
        assert runs[0].command is not None
        assert f"--seed={runs[0].seed}" in runs[0].command
        assert runs[4].name == "00_e_lr_0.1_gam_pong_rep1"

    def test_growing_4_repeats_to_8_keeps_the_first_4(self) -> None:
        description = describe(Experiment("e", "c", ParamGrid(self.GRID)))
        four, eight = (description.generate_runs("d", repeats=n, root_seed=3) for n in (4, 8))
        assert eight[: len(four)] == four

    def test_seeds_depend_on_root_setting_and_repeat_only(self) -> None:
        def seeds(params: Any, root: int = 0) -> dict[str, int | None]:
            runs = describe(Experiment("e", "c", params)).generate_runs("d", repeats=2, root_seed=root)
            return {run.run_id: run.seed for run in runs}

        grid = ParamGrid(self.GRID)
        assert seeds(grid) == seeds(grid.generate_params(randomize=True, seed=9))
        assert seeds(grid).items() <= seeds(ParamGrid([("lr", [5, 0.1, 0.01]), self.GRID[1]])).items()
        assert set(seeds(grid).values()).isdisjoint(seeds(grid, root=1).values())

    def test_seeds_do_not_change_between_versions(self) -> None:
        (run,) = describe(Experiment("e", "c", [{"lr": 0.1}])).generate_runs("d", repeats=1)
        assert (run.run_id, run.seed) == ("d045979738967899-0", 383645601)

    def test_without_repeats_there_is_no_seed(self) -> None:
        (run,) = describe(Experiment("e", "c")).generate_runs("d")
        assert (run.seed, run.repeat, run.arguments) == (None, 0, {})

    def test_a_seed_that_is_swept_as_well_is_refused(self) -> None:
        experiment = Experiment("e", "c", [{"seed": 1}])
        with pytest.raises(ValueError, match="sets 'seed', as the repeats do"):
            describe(experiment).generate_runs("d", repeats=2)
        assert len(describe(experiment).generate_runs("d", repeats=2, seed_param=None)) == 2
        with pytest.raises(ValueError, match="at least 1"):
            describe(experiment).generate_runs("d", repeats=0)

    def test_functions_and_programs_are_runs_too(self) -> None:
        program = Program("whole")
        runs = describe(
            Experiment("function", train, [{"lr": 0.1}]),
            Experiment("program", program),
            Experiment("maker", make_program, [{"lr": 0.1}], makes_program=True),
        ).generate_runs("d", repeats=1)
        assert (runs[0].function, runs[0].arguments) == (train, {"lr": 0.1, "seed": runs[0].seed})
        assert (runs[1].program, runs[2].program) == (program, make_program)
        assert len({run.run_id for run in runs}) == 3

    @pytest.mark.parametrize(
        "command",
        ["a '|' \"&&\" \\; x|y a=>b", "bash -c 'train \"$@\" | tee log' bash", "a --expr=1>0 <pad> it\\'s \\| b"],
    )
    def test_what_is_quoted_or_within_a_word_is_no_word_of_a_shell(self, command: str) -> None:
        (run,) = describe(Experiment("e", command)).generate_runs("d")
        assert run.command is not None
        assert run.command[: len(shlex.split(command))] == tuple(shlex.split(command))

    def test_environment_variables_become_text(self) -> None:
        (run,) = describe(Experiment("e", "c", env_vars={"N": 1, "P": "ü $x"})).generate_runs("d")
        assert run.env == {"N": "1", "P": "ü $x"}

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Experiment("e", "python 'x"), "No closing quotation in command"),
            (lambda: Experiment("e", ""), "empty command"),
            (lambda: Experiment("e", "cd x && python a.py"), "'&&' would be an argument of 'cd'"),
            (lambda: Experiment("e", "a '|' b |\ttee log"), r"'\|' would be an argument of 'a': quote it .* bash -c"),
            (lambda: Experiment("e", "a 2>&1"), "'2>&1' would be an argument"),
            (lambda: Experiment("e", "N=1 python a.py"), "'N=1' would be the program: .* env"),
            (lambda: Experiment("e", cast("Any", 5)), "a command line, a function or a program, got 5"),
            (lambda: Experiment("../e", "c"), "a folder below the train_dir"),
            (lambda: Experiment("", "c"), "below the train_dir, got ''"),
            (lambda: RunDescription("/run", []), "a run's name is that of a folder"),
            (lambda: describe(value_style=cast("Any", "yaml")), "python, lower, flags, hydra, got 'yaml'"),
            (lambda: Experiment("e", "c", makes_program=True), "makes_program needs a function"),
            (lambda: Experiment("e", Program("p"), [{"a": 1}]), "takes no parameters"),
            (lambda: Experiment("e", "c", [{"a": 1, "a b": 2}]), "without spaces"),
            (lambda: describe(Experiment("e", "c", [{"a": object()}])).generate_runs("d"), "cannot identify a run"),
            (lambda: describe(Experiment("e", "c", [{"a": {1: 1, "b": 2}}])).generate_runs("d"), "cannot identify"),
            (lambda: describe(Experiment("e", "c", env_vars={"A": None})).generate_runs("d"), "A has no value"),
            (
                lambda: describe(Experiment("e", "c", env_vars={"A=B": 1})).generate_runs("d"),
                "'A=B' cannot be the name",
            ),
            (lambda: describe(Experiment("e", "c", [{"a": "\0"}])).generate_runs("d"), "cannot be an argument"),
            (lambda: list(describe(Experiment("e", train)).generate_experiments("d")), "no command line in text"),
            (lambda: RunSpec(name="r", folder="f"), "got 0 of them"),
            (lambda: RunSpec(name="r", folder="f", command=("a",), function=train), "got 2 of them"),
            (
                lambda: RunSpec(name="r", folder="f", command=cast("Any", "python train.py")),
                "got 'python train.py'; shlex",
            ),
            (
                lambda: RunSpec(name="r", folder="f", function=Opaque()),
                "run 'r': an object of type Opaque cannot identify",
            ),
            (lambda: RunSpec(name="r", folder="f", command=()), "'r' has an empty command"),
            (lambda: RunSpec(name="r", folder="", command=("a",)), "a name and a folder"),
            (lambda: RunSpec(name="r", folder="f", command=("a",), seed=-1), "at least 0"),
            (lambda: RunSpec(name="r", folder="f", command=("a",), env=cast("Any", {"A": 1})), "A is a text, got 1"),
        ],
    )
    def test_mistakes_are_told(self, make: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert isinstance(caught.value, KourouError)

    def test_runs_made_by_hand_identify_themselves(self) -> None:
        first, second = (RunSpec(name=n, folder=n, command=("c", n)) for n in "ab")
        assert check_runs([first, second]) == (first, second)
        assert first.setting != second.setting
