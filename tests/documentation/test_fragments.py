"""What pages show in parts fits what is there: commands with their options, calls with their arguments, sweep files."""

from __future__ import annotations

import ast
import functools
import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kourou
from documentation.pages import Block, blocks, pages, shown
from kourou.experiments import load_sweep


def shown_blocks(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{shown(page)}:{block.line}")
        for page in pages()
        for block in blocks(page)
        if block.language in languages
    ]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each call of ``kourou``."""
    for line in block.text.splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in {";", "&&", "|", "&"}:
                if words[:1] == ["kourou"]:
                    yield words[1:]
                words = []
            else:
                words.append(word)


@functools.cache
def command_line() -> Any:
    import typer

    from kourou.cli.app import app

    return typer.main.get_command(app)


@pytest.mark.parametrize("block", [one for one in shown_blocks("bash", "console") if list(commands(one.values[0]))])
def test_commands_take_what_they_are_given(block: Block) -> None:
    for words in commands(block):
        command, rest = command_line(), list(words)
        while hasattr(command, "commands") and rest:
            assert rest[0] in command.commands, words
            command = command.commands[rest.pop(0)]
        command.make_context("kourou", rest)  # raises what the user would read


def named(block: Block) -> dict[str, Any]:
    """What a block's imports of kourou bring; ``lp`` is there on every page."""
    names: dict[str, Any] = {"lp": kourou, "kourou": kourou}
    for statement in ast.walk(ast.parse(block.text)):
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").split(".")[0] == "kourou":
            exec(ast.unparse(statement), names)
    return names


def called(function: ast.expr, names: dict[str, Any]) -> Any:
    """The object of kourou's that an expression names, or None."""
    if isinstance(function, ast.Name):
        return names.get(function.id)
    if isinstance(function, ast.Attribute):
        owner = called(function.value, names)
        return getattr(owner, function.attr, None) if inspect.ismodule(owner) else None
    return None


@pytest.mark.parametrize("block", shown_blocks("python"))
def test_calls_give_arguments_that_are_taken(block: Block) -> None:
    names = named(block)
    for call in ast.walk(ast.parse(block.text)):
        if isinstance(call, ast.Call) and callable(target := called(call.func, names)):
            given: list[None] = [None for value in call.args if not isinstance(value, ast.Starred)]
            keywords: dict[str, None] = {keyword.arg: None for keyword in call.keywords if keyword.arg}
            try:
                inspect.signature(target).bind_partial(*given, **keywords)
            except TypeError as error:
                pytest.fail(f"{ast.unparse(call)}: {error}")


@pytest.mark.parametrize("block", [block for block in shown_blocks("yaml") if "experiments:" in block.values[0].text])
def test_sweep_files_are_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(block.text)
    assert load_sweep(tmp_path / "sweep.yaml").description.experiments
