"""The commands, as typer reads them."""

from __future__ import annotations

import enum
import sys
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from kourou import errors
from kourou.cli.drawing import plan_as_mermaid, plan_as_table
from kourou.cli.loading import load_program
from kourou.runtime.compile import compile_program

__all__ = ["app"]

app = typer.Typer(
    name="kourou",
    help="A program runtime for distributed machine learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a user's traceback as Python prints it, without pages of locals
)


class PlanFormat(str, enum.Enum):
    """How ``kourou plan`` prints."""

    TABLE = "table"
    JSON = "json"
    MERMAID = "mermaid"


@app.callback()
def _root() -> None:
    """A program runtime for distributed machine learning."""


@app.command()
def plan(
    target: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Returns the lp.Program.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGS]", help="Arguments of FUNCTION.")] = None,
    launch_type: Annotated[str | None, typer.Option(help="local_mt, local_mp, test_mt or test_mp.")] = None,
    form: Annotated[PlanFormat, typer.Option("--format", help="How to print it.")] = PlanFormat.TABLE,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Print what a launch would start, and start nothing."""
    try:
        loaded = load_program(target, words or [])
        options: dict[str, Any] = dict(loaded.launch_kwargs)
        options.pop("run_dir", None)
        compiled = compile_program(
            loaded.program,
            launch_type or options.pop("launch_type", None),
            stop=options.pop("stop_timeline", None),
            **{k: v for k, v in options.items() if k != "launch_type"},
        )
    except errors.KourouError as error:
        _fail(error)
    if json or form is PlanFormat.JSON:
        print(compiled.to_json())  # noqa: T201 - plain output, to be piped
    elif form is PlanFormat.MERMAID:
        print(plan_as_mermaid(compiled))  # noqa: T201 - likewise
    else:
        Console().print(plan_as_table(compiled))


def _fail(error: errors.KourouError) -> NoReturn:
    print(f"kourou: {error}", file=sys.stderr)  # noqa: T201 - as any command does
    raise typer.Exit(2)
