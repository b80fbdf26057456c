"""The documentation says what is so: names that it uses exist, its files run, every error has its entry."""

from __future__ import annotations

import ast
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

import kourou
from documentation.pages import DOCS, Block, anchors, blocks, links, pages, shown
from kourou import errors
from kourou.cli.control.explain import explain_error

FRAGMENTS = [
    pytest.param(block, id=f"{shown(page)}:{block.line}")
    for page in pages()
    for block in blocks(page)
    if block.language == "python"
]
USED_NAME = re.compile(r"\blp\.([A-Za-z_]\w*)")


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_python_fragments_can_be_parsed(fragment: Block) -> None:
    ast.parse(fragment.text)


# The page on migrating names what other projects have.
@pytest.mark.parametrize("page", [page for page in pages() if page.stem != "migrating"], ids=shown)
def test_names_of_kourou_that_a_page_uses_exist(page: Path) -> None:
    used = set(USED_NAME.findall(page.read_text()))
    assert sorted(name for name in used if not hasattr(kourou, name)) == []


@pytest.mark.parametrize("page", pages(), ids=shown)
def test_links_lead_to_something(page: Path) -> None:
    generated = DOCS / "reference"  # by the site's builder, which looks at links to there
    found = [(target, anchor) for target, anchor in links(page) if generated not in target.parents]
    assert [str(target) for target, _ in found if not target.exists()] == []
    assert [f"{target}#{anchor}" for target, anchor in found if anchor and anchor not in anchors(target)] == []


def test_every_error_has_an_entry_and_no_entry_is_of_the_past() -> None:
    described = set(re.findall(r"^### (\w+)$", (DOCS / "errors.md").read_text(), re.MULTILINE))
    raised = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    abstract = {"KourouError", "RpcError", "StatusCode"}
    assert described == raised - abstract


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tracebacks have no notes before")
def test_a_traceback_says_where_its_error_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    error: Any = errors.NodeExited("gone")
    error.add_note("and a note of the user's")
    told = traceback.format_exception_only(error)
    assert told[1:] == ["what it means, and what to do: kourou explain NodeExited\n", "and a note of the user's\n"]
    explain_error("kourou.errors.nodeexited")
    assert capsys.readouterr().out.startswith("# NodeExited\n\nThe node that was called has ended")
    with pytest.raises(errors.NotFound, match="did you mean NodeExited"):
        explain_error("NodeExit")
