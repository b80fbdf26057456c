"""``kourou explain``: the entry of an error on the page on errors."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from rich.markdown import Markdown

import kourou
from kourou import errors
from kourou.cli.terminal.output import console, print_text

_ENTRY = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)


def explain_error(name: str) -> None:
    """Print what an error means, and what to do.

    Raises:
        NotFound: there is no such error.
    """
    entries = dict(_ENTRY.findall(_page().read_text("utf-8")))
    by_word = {entry.lower(): entry for entry in entries}
    word = name.rpartition(".")[2].lower()
    if word not in by_word:
        close = difflib.get_close_matches(word, by_word, n=1)
        meant = f"did you mean {by_word[close[0]]}?" if close else f"there are {', '.join(entries)}"
        raise errors.NotFound(f"kourou has no error {name!r}; {meant}")
    entry = by_word[word]
    text = f"# {entry}\n\n{entries[entry].strip()}"
    out = console()
    if out.is_terminal:
        out.print(Markdown(text, hyperlinks=False))
    else:
        print_text(text)


def _page() -> Path:
    """The page: of an installed package, or of a checkout."""
    package = Path(kourou.__file__).parent
    return next(page for page in (package / "errors.md", package.parents[1] / "docs" / "errors.md") if page.is_file())
