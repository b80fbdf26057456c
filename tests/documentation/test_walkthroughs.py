"""A reader who types what the quickstart and the tutorial say gets what they say."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from documentation.pages import DOCS, Block, blocks, pages, shown


class Reader:
    """Writes a page's files into a folder, and types its commands there.

    Args:
        folder: where; also that of runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = os.environ | {"KOUROU_RUNS_DIR": str(folder / "runs"), "PATH": path, "COLUMNS": "200"}

    def type(self, command: str) -> str:
        """What it prints; fails unless it exits with 0."""
        words = [sys.executable if word == "python" else word for word in shlex.split(command)]
        done = subprocess.run(words, cwd=self._folder, env=self._env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def follow(self, page: Path, *, without: tuple[str, ...] = ("\n",)) -> None:
        """From the page's top to its end, but for commands that begin like that.

        What a page shows below a command is what the command has to print, among other things.
        """
        for block in blocks(page):
            if block.file_name is not None:
                (self._folder / block.file_name).write_text(block.text)
            command, *shown = block.text.splitlines() if block.language == "console" else ("",)
            if command and not command.removeprefix("$ ").startswith(without):
                assert len(block.commands) == 1 or not shown or all(line.startswith("$ ") for line in shown)
                printed = "".join(self.type(line) for line in block.commands)
                assert [line for line in shown if not line.startswith("$ ") and line not in printed] == []


FOLLOWED = {DOCS / "quickstart.md", DOCS / "tutorial.md", DOCS / "checkpoints.md"}
NEEDS_MORE = ("lp.Slurm(", "hostnames=", "run.folder", "python -m train")
"""What a block has that is there on a cluster, on other hosts, after a run, or beside a script alone."""
WHOLE = [
    pytest.param(block, marks=[] if page.stem == "README" else pytest.mark.soak, id=f"{shown(page)}:{block.line}")
    for page in pages()
    for block in blocks(page)
    if page not in FOLLOWED
    and block.language == "python"
    and block.text.startswith(("import ", "from "))
    and not any(word in block.text for word in NEEDS_MORE)
]


@pytest.mark.parametrize("block", WHOLE)
def test_a_block_that_begins_with_its_imports_runs(block: Block, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(block.text)
    Reader(tmp_path).type("python script.py")


@pytest.mark.soak
def test_the_page_on_checkpoints(tmp_path: Path) -> None:
    Reader(tmp_path).follow(DOCS / "checkpoints.md")


def test_the_quickstart(tmp_path: Path) -> None:
    Reader(tmp_path).follow(DOCS / "quickstart.md")


@pytest.mark.long
def test_the_tutorial_up_to_its_sweep(tmp_path: Path) -> None:
    Reader(tmp_path).follow(DOCS / "tutorial.md", without=("python", "kourou sweep"))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_tutorial(tmp_path: Path) -> None:
    Reader(tmp_path).follow(DOCS / "tutorial.md")
