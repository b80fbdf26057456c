"""Sphinx extension: pages written from the code (commands, sweep files, errors), and diagrams drawn by the browser."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from kourou import errors
from kourou.cli.app import app as commands
from kourou.experiments.describe.sweep_schema import json_schema

__all__ = ["setup"]


def _cell(text: str) -> str:
    """A text as a table's cell may have it."""
    return " ".join(text.split()).replace("|", "\\|")


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    children: dict[str, Any] = getattr(command, "commands", {})
    if not children:
        yield " ".join(path), command
    for name, child in sorted(children.items()):
        if not child.hidden:
            yield from _walk(child, (*path, name))


def _option(parameter: Any) -> str:
    """A row of the table of a command's arguments and options."""
    named = parameter.param_type_name == "option"
    names = [*parameter.opts, *parameter.secondary_opts] if named else [parameter.metavar or parameter.name]
    default = getattr(parameter.default, "value", parameter.default)  # an enum's
    shown = "" if default in (None, False) or callable(default) else f" Default: `{default}`."
    return f"| {', '.join(f'`{_cell(name)}`' for name in names)} | {_cell(parameter.help or '')}{shown} |"


def commands_page() -> str:
    """All commands with their arguments, options and exit codes, as ``--help`` has them."""
    parts: list[str] = []
    for name, command in _walk(typer.main.get_command(commands), ("kourou",)):
        parts.append(f"## {name}\n\n{inspect.cleandoc(command.help or '')}\n")
        rows = [_option(one) for one in command.params if not getattr(one, "hidden", False)]
        parts.append("\n".join(["| argument or option | |", "| --- | --- |", *rows]) + "\n" if rows else "")
    return "\n".join(parts)


def _kind(schema: dict[str, Any]) -> str:
    """A schema's type in words."""
    match schema:
        case {"$ref": str(path)}:
            name = path.rsplit("/", 1)[1]
            words = f"[{name}](#{name.lower()})"
        case {"enum": [*values]}:
            words = " or ".join(f"`{json.dumps(value)}`" for value in values)
        case {"anyOf": [*kinds]} | {"oneOf": [*kinds]}:
            words = " or ".join(dict.fromkeys(_kind(one) for one in kinds))
        case {"type": "array", "items": dict(items)} if items:
            words = f"list of {_kind(items)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            words = f"mapping to {_kind(values)}"
        case _:
            words = str(schema.get("type", "anything"))
    return words


def _section(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", ())
    rows = ["| key | value | |", "| --- | --- | --- |"]
    for key, value in schema.get("properties", {}).items():
        default = value.get("default")
        said = _cell(value.get("description", ""))
        said += " Required." if key in required else f" Default: `{json.dumps(default)}`." if default else ""
        rows.append(f"| `{key}` | {_cell(_kind(value))} | {said} |")
    return rows


def sweep_file_page() -> str:
    """Every key of a sweep's file, from its JSON Schema."""
    schema = json_schema()
    parts = ["\n".join(_section(schema))]
    for name, section in schema.get("$defs", {}).items():
        if section.get("properties"):
            parts.append(f"## {name}\n\n{section.get('description', '')}\n\n" + "\n".join(_section(section)))
    return "\n\n".join(parts) + "\n"


def _errors_below(kind: type[BaseException], depth: int = 0) -> Iterator[str]:
    """Those that ``kourou.errors`` derives from a class: what Python calls them as well, and what they say."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            beside = [base.__name__ for base in child.__bases__ if base is not kind]
            also = f" ({', '.join(f'`{name}`' for name in beside)})" if beside else ""
            yield f"{'  ' * depth}- `{child.__name__}`{also}: {(child.__doc__ or '').splitlines()[0]}"
            yield from _errors_below(child, depth + 1)


def error_tree() -> str:
    """All errors, each below what it derives from."""
    roots = (Exception, SystemExit, KeyboardInterrupt)
    parts = [f"Below `{root.__name__}`:\n\n" + "\n".join(_errors_below(root)) for root in roots]
    return "\n\n".join(parts) + "\n"


def _write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(exist_ok=True)
    pages = {"commands": commands_page(), "sweep_file": sweep_file_page(), "error_tree": error_tree()}
    for name, text in pages.items():
        page = folder / f"{name}.md"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


class Mermaid(SphinxDirective):
    """A diagram; its text stays what a reader without JavaScript sees."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content)
        diagram = nodes.literal_block(text, text, classes=["mermaid-source"], language="text")
        return [nodes.container("", diagram, classes=["diagram"])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of all this."""
    app.add_directive("mermaid", Mermaid)
    app.connect("builder-inited", _write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
