"""docs/concurrency.md has all threads, locks, fork handlers and finalisers that there are; the drawn order holds."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lock_order
from lock_order import GATES, SOURCE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "concurrency.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def sources() -> Iterator[tuple[str, ast.Module]]:
    for file in SOURCE.rglob("*.py"):
        name = file.relative_to(SOURCE).as_posix()
        text = file.read_text(encoding="utf-8")
        if not name.startswith(("testing/", "proto/")) and re.search(r"[tT]hread|Timer|BackgroundLoop", text):
            yield name, ast.parse(text)


def started() -> Iterator[tuple[str, str]]:
    """Threads that kourou starts: name (``…`` for what varies) and file."""
    for file, tree in sources():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            maker = ast.unparse(call.func).rpartition(".")[2]
            if maker in {"Timer", "start_unlisted_thread"}:
                yield maker, file
            elif maker in {"Thread", "BackgroundLoop", "ThreadPoolExecutor"}:
                given = [word.value for word in call.keywords if word.arg == "name"] or call.args[1:2]
                assert given, f"a thread without a name: {file}:{call.lineno}"
                said = ast.unparse(given[0])
                yield re.sub(r"\{.*?\}", "…", said[said.find("'") + 1 : -1]) if "'" in said else "…", file


@pytest.mark.usefixtures("uncollected")
def test_every_thread_is_on_the_page() -> None:
    listed = {(name.strip("`"), file.strip("`")) for name, file, *_ in rows("Threads")}
    found = {pair for pair in started() if pair[1] not in {"cpython.py", "courier/core/background.py"}}
    assert sorted(found - listed) == [], "say on the page who starts it, what it owns and who ends it"
    assert sorted(listed - found) == [], "these are no more"


def test_threads_are_started_where_a_limit_of_the_system_becomes_an_error_of_its_own() -> None:
    raw = [
        (file.relative_to(SOURCE).as_posix(), started)
        for file in SOURCE.rglob("*.py")
        for started in re.findall(r"\w*(?:[tT]hread|[tT]imer|watcher)\.start\(\)", file.read_text(encoding="utf-8"))
        if file != SOURCE / "threads.py" and "contracts" not in file.parts  # which tests run
    ]
    assert raw == [], "kourou.threads.start does so"


@pytest.mark.usefixtures("uncollected")
def test_every_lock_is_on_the_page_with_its_kind() -> None:
    listed = {(name.strip("`"), kind) for name, kind, *_ in rows("Locks")}
    found = {(name, "gate" if name in GATES else kind) for name, kind in lock_order.locks().values()}
    assert sorted(found - listed) == [], "say on the page what it guards"
    assert sorted(listed - found) == [], "these are no more"


def drawn() -> set[tuple[str, str]]:
    names = dict(re.findall(r'(\w+)\["([\w.]+)"\]', PAGE))
    return {(names[held], names[taken]) for held, taken in re.findall(r"^ +(\w+) --> (\w+)$", PAGE, re.MULTILINE)}


@pytest.mark.usefixtures("uncollected")
def test_the_drawn_order_has_no_circle_and_draws_what_there_is() -> None:
    pairs = drawn()
    assert pairs
    assert lock_order.cycle_in(pairs) == []
    assert {name for pair in pairs for name in pair} <= {name for name, _ in lock_order.locks().values()}


def test_a_circle_is_found() -> None:
    assert lock_order.cycle_in({("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")}) == ["a", "b", "c", "a"]


def test_a_program_takes_locks_in_the_drawn_order(tmp_path: Path) -> None:
    # When a program calls on all lanes, streams, batches and uses replay within one process
    seen = tmp_path / "seen"
    program = Path(__file__).with_name("lock_order_program.py")
    env = {**os.environ, "KOUROU_RUNS_DIR": str(tmp_path / "runs")}
    subprocess.run([sys.executable, str(program), str(seen)], check=True, env=env, timeout=55, capture_output=True)
    # Then each lock was taken while only those were held that stand above it
    below = drawn()
    grown = True
    while grown:
        more = {(upper, lower) for upper, middle in below for other, lower in below if middle == other} - below
        below, grown = below | more, bool(more)
    pairs = {(held, taken) for held, taken in map(str.split, seen.read_text("utf-8").splitlines())}
    assert pairs
    assert sorted(pairs - below) == [], "draw it, or do not hold the one while the other is taken"


def test_handlers_of_forks_and_finalisers_are_on_the_page() -> None:
    after_fork = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        if re.search(r"register_at_fork|renewed_in_children\(", file.read_text(encoding="utf-8"))
    }
    finalisers = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        if re.search(r"def __del__|\"__del__\"|weakref\.finalize\(", file.read_text(encoding="utf-8"))
    }
    assert {row[0].strip("`") for row in rows("After fork")} == after_fork - {"cpython.py"}
    assert {row[0].strip("`") for row in rows("Finalisers")} == finalisers


def test_a_lock_of_the_whole_process_is_renewed_in_forks() -> None:
    # One in a module or a class would stay held in a child if a thread had it when the process was forked.
    for file, tree in sources():
        places = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef))]
        for statement in (statement for place in places for statement in place.body):
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
                made = re.search(r"threading\.(R?Lock|Condition|Semaphore)\(", ast.unparse(statement.value))
                renewed = "renewed_in_children" in ast.unparse(statement.value) or file == "script/names.py"
                assert not made or renewed, f"{file}:{statement.lineno}: wrap it in cpython.renewed_in_children"
