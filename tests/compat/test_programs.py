"""Programs written for Launchpad and Reverb run as they are, in processes that kourou starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("no_leaks", "runs_dir")

PROGRAMS = Path(__file__).parent / "programs"


def run(*arguments: str | Path, folder: Path) -> str:
    """What a program prints; it must not leave anything in its working folder."""
    before = set(folder.iterdir())
    command = [sys.executable, "-m", "kourou.compat", *map(str, arguments)]
    ended = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in folder.iterdir() if path.name not in {"runs", "__pycache__"}} == {
        path.name for path in before
    }
    return ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["--lp_launch_type=local_mp", "--colocate", "--num_actors=3", "--actors_per_node=2"],
        ["--lp_launch_type=local_mt", "--lp_termination_notice_secs=1"],
    ],
)
def test_a_distributed_agent_with_replay(tmp_path, flags):
    told = run(PROGRAMS / "distributed_agent.py", *flags, folder=tmp_path)
    assert "limit reached" in told
    assert ("actor 0 of 3, epsilon 0.40" in told) == ("--colocate" in flags)  # a flag that the launcher was given


def test_actors_and_learners_with_an_environment_each(tmp_path):
    told = run(PROGRAMS / "alignment.py", folder=tmp_path)
    assert "met [(1, 3, 'oat', 'gloo', '0'), (2, 3, 'oat', 'gloo', '1')]" in told
    assert told.count("answers ['HELLO']") == 2
    assert "the program has ended" in told


EXAMPLE = """
import launchpad as lp

class Server:
    def double(self, x):
        return 2 * x

def make_program():
    program = lp.Program("p")
    server = program.add_node(lp.CourierNode(Server), label="server")
    program.add_node(lp.PyNode(ask, server), label="client")
    return program

def ask(server):
    print("doubled", server.double(21))
    lp.stop()
"""
MAIN = """
import sys
import launchpad as lp
from launchpad.examples.doubling.program import make_program

assert __name__ == "__main__" and __spec__.name == "launchpad.examples.doubling.launch", __spec__
assert sys.argv[1:] == ["a", "-b"]
lp.launch(make_program(), launch_type="local_mp")
sys.exit(0)
"""


def test_modules_of_the_project_that_are_beside_it_are_found_and_run(tmp_path):
    example = tmp_path / "launchpad" / "examples" / "doubling"
    example.mkdir(parents=True)
    for folder in (example, example.parent, example.parent.parent):
        (folder / "__init__.py").write_text("raise_if_imported = 1")
    (tmp_path / "launchpad" / "__init__.py").write_text("raise RuntimeError('the original')")
    (example / "program.py").write_text(EXAMPLE)
    (example / "launch.py").write_text(MAIN)
    assert "doubled 42" in run("-m", "launchpad.examples.doubling.launch", "a", "-b", folder=tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "usage: python -m kourou.compat"),
        (["nothing.py"], 1, "kourou.compat: can't open nothing.py: No such file"),
        (["-m", "nothing.at.all"], 1, "kourou.compat: there is no module nothing.at.all to run"),
        (["raising.py"], 1, 'Traceback (most recent call last):\n  File "raising.py", line 1, in <module>\n'),
    ],
    ids=["nothing", "file", "module", "error"],
)
def test_the_command_says_what_it_takes_and_what_is_wrong(tmp_path, words, code, told):
    (tmp_path / "raising.py").write_text("1 / 0")
    command = [sys.executable, "-m", "kourou.compat", *words]
    asked = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (asked.returncode, asked.stdout) == (code, "")
    assert asked.stderr.startswith(told)
