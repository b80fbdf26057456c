"""What the documentation's pages hold: files to write, commands to run, fragments to look at."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FILE_NAME = re.compile(r"# (\S+\.(?:py|yaml))\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code on a page."""

    language: str
    text: str
    line: int

    @property
    def file_name(self) -> str | None:
        """The file that the block is the whole of, if its first line says so."""
        found = FILE_NAME.match(self.text)
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """The lines that a reader would type."""
        return [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]


def pages() -> list[Path]:
    """All pages that are written by hand, and those at the top."""
    own = [page for page in sorted(DOCS.rglob("*.md")) if "generated" not in page.parts and "_build" not in page.parts]
    return [*sorted(DOCS.parent.glob("*.md")), *own]


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """What a page links to in this repository: files, each with an anchor or \"\"."""
    text = BLOCK.sub("", page.read_text())
    for target in LINK.findall(text):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield ((page.parent / path).resolve() if path else page), anchor


def anchors(page: Path) -> set[str]:
    """What links to a page can name: its headings, as GitHub and the site's builder make anchors of them."""
    headings = HEADING.findall(BLOCK.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shown(page: Path) -> str:
    """A page's name, as tests are called by."""
    return page.relative_to(DOCS.parent).with_suffix("").as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of code of a page, in their order."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        yield Block(language=found[1], text=found[2], line=text.count("\n", 0, found.start()) + 1)
