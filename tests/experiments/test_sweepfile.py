"""Sweeps from files: what they say, and where they are wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kourou import errors
from kourou.experiments import extras
from kourou.experiments.configfile import read_config
from kourou.experiments.descriptions import Experiment, ParamGrid, RunDescription
from kourou.experiments.sweepfile import load_sweep
from kourou.runtime.program import Program

TOML_READER = "tomllib" if sys.version_info >= (3, 11) else "tomli"
PROGRAM = Program("whole")

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
    return RunDescription("mujoco", [experiment]).generate_runs("out dir", repeats=2, root_seed=7)


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
        ({**minimal(), "repeats": 0}, "sweep.json: repeats are at least 1, got 0"),
        (minimal(env=[1]), "sweep.json: experiments[0].env: expected keys and values, got [1]"),
        (minimal(function="a:b"), "sweep.json: experiments[0]: expected one of command, function, program"),
        (minimal(command="'x"), "sweep.json: experiments[0]: experiment 'e': No closing quotation"),
        (minimal(params={"grid": {"lr": 1}}), "sweep.json: experiments[0].params.grid.lr: expected a list, got 1"),
        (minimal(params={"grid": {"a,b": [[1]]}}), "experiments[0].params.grid: (a, b) need 2 values at a time"),
        (minimal(params={"gird": {}}), "sweep.json: experiments[0].params.gird: no such setting; did you mean 'grid'?"),
        (minimal(params={"grid": {"a": [1]}, "where": "b > 1"}), "params.grid: condition 'b > 1': there is no"),
        (minimal(params={"list": [1]}), "params.list: combination 0 is a dictionary of parameters, got 1"),
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


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.yaml, \.yml, \.toml, \.json, not '\.ini'"):
        load_sweep(write(tmp_path, "", "sweep.ini"))
    with pytest.raises(FileNotFoundError):
        load_sweep(tmp_path / "none.json")


def test_a_missing_reader_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(errors.MissingExtra, match=r"pyyaml is not installed.*kourou\[experiments\]"):
        load_sweep(write(tmp_path, SWEEP, "sweep.yaml"))


def test_a_broken_package_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("import none_such_package", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="none_such_package"):
        extras.load_extra("broken_package")
