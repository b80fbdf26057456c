"""``kourou sweep init``: a first file from a command's own help, which then runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.commands import kourou
from kourou.cli.sweep.first_file import read_help

pytestmark = pytest.mark.usefixtures("no_leaks")

ARGPARSE = """
import argparse
parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
parser.add_argument("-n", "--num-steps", type=int, default=100, help="with a text that is long " * 9)
parser.add_argument("--lr", type=float, default=0.1, help="rate")
parser.add_argument("--both", action=argparse.BooleanOptionalAction, default=True, help="flag")
parser.add_argument("--mode", choices=["a", "b"], default="a", help="mode")
parser.add_argument("--quiet", action="store_true")
parser.add_argument("--out")
parser.add_argument("--seed", type=int, default=0, help="seed")
print(parser.parse_args())
"""
TYPER = """
import typer
def main(lr: float = 0.1, num_steps: int = 100, both: bool = True, mode: str = "a", seed: int = 0):
    print(lr, seed)
typer.run(main)
"""
TYRO = """
import dataclasses, tyro
from typing import Literal
@dataclasses.dataclass
class Net:
    width: int = 64
@dataclasses.dataclass
class Args:
    lr: float = 0.1
    both: bool = True
    mode: Literal["a", "b"] = "a"
    net: Net = dataclasses.field(default_factory=Net)
    seed: int = 0
print(tyro.cli(Args))
"""
HYDRA = """app is powered by Hydra.

== Configuration groups ==
Compose your configuration from those groups (group=option)

db: mysql, postgresql


== Config ==
Override anything in the config (foo.bar=value)

lr: 0.1
flag: true
net:
  width: 64
name: null


Powered by Hydra (https://hydra.cc)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("script", "others"),
    [
        (ARGPARSE, ["num-steps: [100]", "both: [true, false]", 'mode: ["a", "b"]', "out: []"]),
        (TYPER, ["num-steps: [100]", "both: [true, false]", 'mode: ["a"]']),
        (TYRO, ["both: [true, false]", 'mode: ["a", "b"]', "net.width: [64]"]),
    ],
    ids=["argparse", "typer", "tyro"],
)
def test_a_script_is_asked_and_the_file_runs_as_it_is(here: Path, script: str, others: list[str]) -> None:
    Path("train.py").write_text(script)
    assert kourou("sweep", "init", "train.py").code == 0
    lines = [line.strip() for line in Path("sweep.yaml").read_text().splitlines()]
    assert "lr: [0.1]" in lines
    assert [line for line in lines if line.startswith("# ")][1:] == [f"# {other}" for other in others]
    outcome = kourou("sweep", "run", "sweep.yaml", "-j", "2")
    assert outcome.code == 0, outcome.err
    assert "train: 3 succeeded" in outcome.err


def test_hydras_help_is_its_configuration() -> None:
    found = read_help(HYDRA)
    assert found.form == "key=value"
    assert found.values == {"lr": [0.1], "flag": [True, False], "net.width": [64], "name": []}


def test_a_file_is_kept_and_a_command_that_fails_is_quoted(here: Path) -> None:
    Path("sweep.yaml").write_text("mine")
    Path("train.py").write_text("import no_such_module")
    refused = kourou("sweep", "init", "train.py")
    assert (refused.code, Path("sweep.yaml").read_text()) == (2, "mine")
    assert "sweep.yaml is there already" in refused.err
    failed = kourou("sweep", "init", "train.py", "-o", "new.yaml")
    assert failed.code == 2
    assert "python train.py --help exited with 1: ModuleNotFoundError: No module named 'no_such_module'" in failed.err
    assert not Path("new.yaml").exists()
