"""The page: its head and style, sections, tables, words in colour. Whatever text comes in is escaped here."""

from __future__ import annotations

import dataclasses
import html
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import kourou
from kourou.cli.terminal.rows import without_escapes

_STYLE = Path(__file__).with_name("report.css")
_MOST_ROWS = 500


@dataclasses.dataclass(frozen=True)
class Markup:
    """HTML, made by the functions of this room."""

    html: str


Cell: TypeAlias = object
"""What a table shows: a :class:`Markup` as it is, the text of all else, nothing of None."""

_TONES: Mapping[str, str] = {
    **dict.fromkeys(("running", "ready", "healthy", "succeeded"), "good"),
    **dict.fromkeys(("finished",), "done"),
    **dict.fromkeys(("failed", "killed", "dead", "timeout", "lost", "error"), "bad"),
    **dict.fromkeys(("starting", "stopping", "interrupted", "restarting", "queued", "warning"), "warn"),
}


def escaped(text: object) -> str:
    """A text for anywhere in the page; what XML has no character for becomes a mark."""
    plain = without_escapes(str(text))
    return html.escape("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in plain))


def page(title: str, head: Markup, parts: Iterable[Markup]) -> str:
    """All of it. No script runs in it, and nothing is loaded from elsewhere."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    made = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style></head><body>\n"
        f"<header><h1>{escaped(title)}</h1>{head.html}</header>\n"
        + "".join(f"{part.html}\n" for part in parts)
        + f"<footer>kourou {kourou.__version__}, {escaped(made)}</footer></body></html>\n"
    )


def section(title: str, *parts: Markup, note: str = "") -> Markup:
    """A part of the page with a heading; nothing where it has no content."""
    content = "".join(part.html for part in parts)
    if not content and not note:
        return Markup("")
    told = f'<p class="note">{escaped(note)}</p>' if note else ""
    return Markup(f"<section><h2>{escaped(title)}</h2>{told}{content}</section>")


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], right: Iterable[str] = ()) -> Markup:
    """A table with its headings, without columns that are empty; those of numbers stand at the right."""
    whole = list(rows)
    there = [place for place in range(len(columns)) if any(_shown(row[place]) for row in whole)]
    columns, listed = [columns[place] for place in there], [[row[place] for place in there] for row in whole]
    kinds = [' class="n"' if column in set(right) else "" for column in columns]
    heads = "".join(f"<th{kind}>{escaped(column)}</th>" for column, kind in zip(columns, kinds, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{kind}>{_shown(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in listed[:_MOST_ROWS]
    ]
    if len(listed) > _MOST_ROWS:
        lines.append(f'<tr><td colspan="{len(columns)}">… and {len(listed) - _MOST_ROWS} more</td></tr>')
    return Markup(f'<div class="wide"><table><tr>{heads}</tr>{"".join(lines)}</table></div>' if listed else "")


def _shown(cell: Cell) -> str:
    return cell.html if isinstance(cell, Markup) else "" if cell is None else escaped(cell)


def facts(pairs: Mapping[str, Cell]) -> Markup:
    """Names and values, those without a value left out."""
    told = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{_shown(value)}</dd></div>" for name, value in pairs.items() if _shown(value)
    )
    return Markup(f"<dl>{told}</dl>" if told else "")


def word(state: object) -> Markup:
    """A state in its colour."""
    text = str(state).lower()
    return Markup(f'<span class="word {_TONES.get(text.split()[-1] if text else "", "")}">{escaped(text)}</span>')


def pre(text: str) -> Markup:
    """Lines as they are."""
    return Markup(f"<pre>{escaped(text)}</pre>" if text.strip() else "")


def folded(title: str, *parts: Markup, is_open: bool = False) -> Markup:
    """What a click shows."""
    content = "".join(part.html for part in parts)
    return Markup(f"<details{' open' * is_open}><summary>{escaped(title)}</summary>{content}</details>")
