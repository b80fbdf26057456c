"""Sweeps from files: what they say, and where they are wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kourou import errors, extras
from kourou.experiments.describe.configfile import read_config
from kourou.experiments.describe.descriptions import Experiment, ParamGrid, RunDescription
from kourou.experiments.describe.sweepfile import load_sweep, sweep_schema
from kourou.runtime.graph.program import Program

TOML_READER = "tomllib" if sys.version_info >= (3, 11) else "tomli"
PROGRAM = Program("whole")
EXAMPLE = Path(__file__).parents[2] / "examples" / "sweep" / "sweep.yaml"

SWEEP = """
name: mujoco
repeats: 2
seed: 7
train_dir: out dir
experiments:
  - name: walkers
    command: python -m train --algo=APPO
    env: {OMP_NUM_THREADS: 1}
    params:
      grid:
        env: [ant, walker]
        use_rnn, recurrence: [[false, 1], [true, 16]]
        lr: [1e-4]
      where: not (env == 'ant' and use_rnn)
"""


def train(lr: float) -> None:
    """Stands for a function that is run."""


def make_program(lr: float) -> Program:
    return Program(f"train-{lr}")


def write(folder: Path, settings: Any, name: str = "sweep.json") -> Path:
    path = folder / name
    path.write_text(settings if isinstance(settings, str) else json.dumps(settings), encoding="utf-8")
    return path


def minimal(**experiment: Any) -> dict[str, Any]:
    return {"name": "s", "experiments": [{"name": "e", "command": "c", **experiment}]}


def expected_runs() -> Any:
    grid = ParamGrid(
        [("env", ["ant", "walker"]), (("use_rnn", "recurrence"), [(False, 1), (True, 16)]), ("lr", [1e-4])],
        where=lambda params: not (params["env"] == "ant" and params["use_rnn"]),
    )
    experiment = Experiment("walkers", "python -m train --algo=APPO", grid, {"OMP_NUM_THREADS": 1})
    return RunDescription("mujoco", [experiment], None, None).generate_runs("out dir", repeats=2, root_seed=7)


class TestTheSameInEachLanguage:
    def test_yaml(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml")
        assert load_sweep(write(tmp_path, SWEEP, "sweep.yaml")).runs() == expected_runs()

    def test_toml(self, tmp_path: Path) -> None:
        pytest.importorskip(TOML_READER)
        text = """
            name = "mujoco"
            repeats = 2
            seed = 7
            train_dir = "out dir"
            [[experiments]]
            name = "walkers"
            command = "python -m train --algo=APPO"
            env = { OMP_NUM_THREADS = 1 }
            [experiments.params]
            where = "not (env == 'ant' and use_rnn)"
            [experiments.params.grid]
            env = ["ant", "walker"]
            "use_rnn, recurrence" = [[false, 1], [true, 16]]
            lr = [1e-4]
        """
        assert load_sweep(write(tmp_path, text, "sweep.toml")).runs() == expected_runs()

    def test_json(self, tmp_path: Path) -> None:
        params = {
            "where": "not (env == 'ant' and use_rnn)",
            "grid": {"env": ["ant", "walker"], "use_rnn, recurrence": [[False, 1], [True, 16]], "lr": [1e-4]},
        }
        command = "python -m train --algo=APPO"
        experiment = {"name": "walkers", "command": command, "env": {"OMP_NUM_THREADS": 1}, "params": params}
        top = {"name": "mujoco", "repeats": 2, "seed": 7, "train_dir": "out dir", "experiments": [experiment]}
        assert load_sweep(write(tmp_path, top)).runs() == expected_runs()


class TestYamlsSurprises:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-4", 1e-4),
            ("2.", 2.0),
            (".5", 0.5),
            ("-1.5E+3", -1500.0),
            ("5", 5),
            ("-5", -5),
            ("010", 10),
            ("0x1F", 31),
            ("0o17", 15),
            ("true", True),
            ("on", "on"),
            ("no", "no"),
            ("12:30", "12:30"),
            ("1_000", "1_000"),
            ("2026-01-01", "2026-01-01"),
            ("~", None),
            ("1.2.3", "1.2.3"),
            ("$HOME", "$HOME"),
        ],
    )
    def test_words_mean_what_they_look_like(self, tmp_path: Path, text: str, value: object) -> None:
        pytest.importorskip("yaml")
        got = read_config(write(tmp_path, f"a: {text}", "a.yaml"))["a"]
        assert (got, type(got)) == (value, type(value))

    def test_keys_come_once_and_merges_still_work(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml")
        merged = "base_values: &b {x: 1, y: 2}\na: {<<: *b, x: 3}"
        assert read_config(write(tmp_path, merged, "a.yaml"))["a"] == {"x": 3, "y": 2}
        with pytest.raises(ValueError, match=r"b\.yaml: key 'x' comes twice"):
            read_config(write(tmp_path, "x: 1\nx: 2", "b.yaml"))

    def test_no_objects_are_made(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml")
        with pytest.raises(ValueError, match=r"a\.yaml: could not determine a constructor"):
            read_config(write(tmp_path, "a: !!python/object/apply:os.getcwd []", "a.yaml"))


class TestSearchesAndTargets:
    def test_searches(self, tmp_path: Path) -> None:
        space = {
            "lr": {"log_uniform": [1e-5, 1e-2]},
            "size": {"log_integers": [1, 100]},
            "layers": {"integers": [1, 4]},
            "drop": {"uniform": [0, 1]},
            "game": {"choice": ["a", "b"]},
            "a, b": [[1, 2], [3, 4]],
        }
        for kind in ("random", "sobol"):
            sweep = load_sweep(write(tmp_path, minimal(params={kind: {"n": 5, "seed": 2, "space": space}})))
            assert len(sweep.runs()) == 5
            assert set(sweep.runs()[0].params) == {"lr", "size", "layers", "drop", "game", "a", "b"}

    def test_a_list_shuffled(self, tmp_path: Path) -> None:
        listed = [{"a": i} for i in range(9)]
        plain = load_sweep(write(tmp_path, minimal(params={"list": listed}))).runs()
        shuffled = load_sweep(write(tmp_path, minimal(params={"list": listed, "shuffle": 1}))).runs()
        assert [run.params for run in plain] == listed
        assert [run.params for run in shuffled] != listed
        assert {run.run_id for run in shuffled} == {run.run_id for run in plain}

    def test_functions_and_programs_by_name(self, tmp_path: Path) -> None:
        experiments = [
            {"name": "f", "function": f"{__name__}:train", "params": {"grid": {"lr": [0.1]}}},
            {"name": "m", "program": f"{__name__}:make_program", "params": {"grid": {"lr": [0.1]}}},
            {"name": "p", "program": f"{__name__}:PROGRAM"},
        ]
        function, maker, program = load_sweep(write(tmp_path, {"name": "s", "experiments": experiments})).runs()
        assert (function.function, maker.program, program.program) == (train, make_program, PROGRAM)

    def test_a_file_may_add_to_another(self, tmp_path: Path) -> None:
        (tmp_path / "bases").mkdir()
        write(tmp_path, {**minimal(), "seed": 3}, "bases/lowest.json")
        write(tmp_path, {"base": "lowest.json", "repeats": 2, "train_dir": "x"}, "bases/base.json")
        sweep = load_sweep(write(tmp_path, {"base": "bases/base.json", "train_dir": "y", "seed_param": None}))
        assert (sweep.root_seed, sweep.repeats, sweep.train_dir, sweep.seed_param) == (3, 2, "y", None)

    def test_bases_go_round_in_no_circle(self, tmp_path: Path) -> None:
        write(tmp_path, {"base": "sweep.json"}, "other.json")
        with pytest.raises(ValueError, match=r"sweep\.json → other\.json → sweep\.json"):
            load_sweep(write(tmp_path, {"base": "other.json"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "sweep.json: name: missing"),
        ({"nam": "s"}, "sweep.json: name: missing (there is 'nam')"),
        ({"name": 5}, "sweep.json: name: expected a text, got 5"),
        ({"name": "s", "experiments": []}, "sweep.json: experiments: expected at least one"),
        ({**minimal(), "repeat": 3}, "sweep.json: repeat: no such setting; did you mean 'repeats'?"),
        ({**minimal(), "repeats": True}, "sweep.json: repeats: expected a whole number, got True"),
        ({**minimal(), "repeats": 0}, "sweep.json: repeats: expected at least 1, got 0"),
        (minimal(env=[1]), "sweep.json: experiments[0].env: expected keys and values, got [1]"),
        (minimal(function="a:b"), "sweep.json: experiments[0]: expected one of command, function, program"),
        (minimal(command="'x"), "sweep.json: experiments[0]: experiment 'e': No closing quotation"),
        (minimal(params={"grid": {"lr": 1}}), "sweep.json: experiments[0].params.grid.lr: expected a list, got 1"),
        (minimal(params={"grid": {"a,b": [[1]]}}), "experiments[0].params.grid: (a, b) need 2 values at a time"),
        (minimal(params={"gird": {}}), "sweep.json: experiments[0].params.gird: no such setting; did you mean 'grid'?"),
        (minimal(params={"grid": {"a": [1]}, "where": "b > 1"}), "params.grid: condition 'b > 1': there is no"),
        (minimal(params={"list": [1]}), "params.list[0]: expected keys and values, got 1"),
        (minimal(params={"random": {"n": 1, "space": {"a": 5}}}), "params.random.space.a: expected a list or keys"),
        (
            minimal(params={"random": {"n": 1, "space": {"a": {"uniform": [3, 1]}}}}),
            "params.random.space.a.uniform: bounds go from low to high; got 3 and 1",
        ),
        (minimal(params={"random": {"n": 1, "space": {"a": {"uniform": [3]}}}}), "expected [lowest, highest], got [3]"),
        (minimal(params={"sobol": {"space": {"a": [1]}}}), "experiments[0].params.sobol.n: missing"),
        ({"name": "s", "experiments": [{"name": "e", "function": "none_such:f"}]}, "[0].function: there is no module"),
        ({"name": "s", "experiments": [{"name": "e", "function": "json:none"}]}, "[0].function: json has no 'none'"),
        ({"name": "s", "experiments": [{"name": "e", "function": "json"}]}, "[0].function: expected module:name"),
        ({**minimal(), "value_style": "yaml"}, "style: expected 'python', 'lower', 'flags' or 'hydra', got 'yaml'"),
        (minimal(command=5), "sweep.json: experiments[0].command: expected a text or a list, got 5"),
        (minimal(command=["a", 5]), "sweep.json: experiments[0].command[1]: expected a text, got 5"),
        (
            minimal(params={"grid": {"a": [1]}, "list": []}),
            "[0].params: expected one of grid, list, random, sobol, got",
        ),
        (minimal(params={"random": {"n": 1, "space": {"a": {}}}}), "space.a: expected one of uniform, log_uniform"),
        (
            minimal(params={"random": {"n": 1, "space": {"a": {"unifrom": [1, 2]}}}}),
            "space.a.unifrom: no such setting; did you mean 'uniform'?",
        ),
        (
            minimal(params={"random": {"n": 1, "space": {"a": {"integers": [0.5, 2]}}}}),
            "space.a.integers[0]: expected a whole number, got 0.5",
        ),
        ({"name": "s", "experiments": [5]}, "sweep.json: experiments[0]: expected keys and values, got 5"),
        ([1], "sweep.json: holds a list"),
        ("{", "sweep.json: Expecting property name"),
        ('{"name": 1, "name": 2}', "sweep.json: key 'name' comes twice"),
        ({"base": 5}, "sweep.json: base: expected the name of another file"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"sweep\.json") as caught:
        load_sweep(write(tmp_path, settings))
    assert message in str(caught.value)


SWEEP_WITH_MISTAKES = """\
nme: s
repeats: two
experiments:
  - name: a
    command: c
  - name: b
    params:
      grid:
        lr: 0.1
      wher: lr > 0
"""


class TestMistakesHaveTheirLines:
    def test_all_at_once(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml")
        with pytest.raises(ValueError, match="missing") as caught:
            load_sweep(write(tmp_path, SWEEP_WITH_MISTAKES, "s.yaml"))
        assert str(caught.value).splitlines() == [
            "s.yaml: name: missing (there is 'nme')",
            "s.yaml: experiments[1].params.grid.lr: expected a list, got 0.1 (line 9)",
            "s.yaml: experiments[1].params.wher: no such setting; did you mean 'where'? (line 10)",
            "s.yaml: repeats: expected a whole number, got 'two' (line 2)",
        ]

    def test_what_only_the_values_show(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml")
        text = "name: s\nexperiments:\n  - name: e\n    command: c\n    params:\n      list: []\n      where: '1 +'\n"
        with pytest.raises(ValueError, match=r"s\.yaml: experiments\[0\]\.params\.list: condition .*\(line 6\)"):
            load_sweep(write(tmp_path, text, "s.yaml"))

    def test_in_the_file_that_has_it(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml")
        write(tmp_path, "name: s\nrepeats: 0\n", "base.yaml")
        write(tmp_path, "base: base.yaml\nexperiments:\n  - name: e\n", "top.yaml")
        with pytest.raises(ValueError, match=r"repeats") as caught:
            load_sweep(tmp_path / "top.yaml")
        assert str(caught.value).splitlines() == [
            "top.yaml: experiments[0]: expected one of command, function, program, got none (line 3)",
            "top.yaml: repeats: expected at least 1, got 0 (base.yaml, line 2)",
        ]

    def test_not_in_toml_and_keys_that_are_no_text(self, tmp_path: Path) -> None:
        pytest.importorskip(TOML_READER)
        pytest.importorskip("yaml")
        with pytest.raises(ValueError, match=r"s\.toml: name: expected a text, got 5$"):
            load_sweep(write(tmp_path, "name = 5", "s.toml"))
        text = "name: s\n5: 6\nexperiments:\n  - {name: e, command: c, params: {grid: {1: [2]}}}\n"
        with pytest.raises(ValueError, match="write it in quotes") as caught:
            load_sweep(write(tmp_path, text, "s.yaml"))
        assert str(caught.value).splitlines() == [
            "s.yaml: experiments[0].params.grid[1]: key 1 is no text; write it in quotes (line 4)",
            "s.yaml: [5]: key 5 is no text; write it in quotes (line 2)",
        ]


class TestSchema:
    @pytest.mark.parametrize(
        "settings",
        [
            minimal(),
            {**minimal(), "$schema": "sweep.schema.json", "repeats": None},
            {"base": "other.json", "repeats": 2},
            minimal(command=["a", "b"], params={"list": [{"a": 1}], "shuffle": 3}),
            minimal(params={"sobol": {"n": 4, "space": {"lr": {"log_uniform": [1e-4, 1]}, "game": ["a", "b"]}}}),
            {"name": "s", "experiments": [{"name": "e", "function": "module:name", "env": {"A": 1}}]},
        ],
    )
    def test_it_takes_what_is_right(self, settings: Any) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        jsonschema.validate(settings, sweep_schema())

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"name": "s", "experiments": []},
            {**minimal(), "repeat": 3},
            {**minimal(), "repeats": 0},
            minimal(function="a:b"),
            {"name": "s", "experiments": [{"name": "e", "function": "module"}]},
            minimal(params={"grid": {"a": [1]}, "list": []}),
            minimal(params={"random": {"n": 1, "space": {"a": {"uniform": [1]}}}}),
            minimal(params={"random": {"n": 1, "space": {"a": {"uniform": [1, 2], "choice": [1]}}}}),
        ],
    )
    def test_it_refuses_what_is_wrong(self, settings: Any) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(settings, sweep_schema())

    def test_the_schema_is_one_and_takes_the_example(self) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        pytest.importorskip("yaml")
        schema = sweep_schema()
        jsonschema.validators.validator_for(schema).check_schema(schema)
        jsonschema.validate(read_config(EXAMPLE), schema)

    def test_every_setting_is_explained(self) -> None:
        schema = sweep_schema()
        sections = [schema, *schema["$defs"].values()]
        assert {
            name for part in sections for name, field in part["properties"].items() if "description" not in field
        } == set()
        assert {"train_dir", "repeats", "experiments", "base", "$schema"} <= set(schema["properties"])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.yaml, \.yml, \.toml, \.json, not '\.ini'"):
        load_sweep(write(tmp_path, "", "sweep.ini"))
    with pytest.raises(FileNotFoundError):
        load_sweep(tmp_path / "none.json")


def test_a_missing_reader_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(errors.MissingExtra, match=r"pyyaml is not installed.*kourou\[experiments\]"):
        load_sweep(write(tmp_path, SWEEP, "sweep.yaml"))


def test_without_pydantic_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(errors.MissingExtra, match=r"pydantic is not installed.*kourou\[experiments\]"):
        load_sweep(write(tmp_path, minimal()))


def test_pydantic_is_loaded_by_what_reads_a_file() -> None:
    code = "import sys, kourou.experiments; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_broken_package_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("import none_such_package", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="none_such_package"):
        extras.load_extra("broken_package")
