"""The command line: the commands of the rooms beside this module, as one application."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import kourou
from kourou.cli.control.commands import control_app
from kourou.cli.report.commands import report_app
from kourou.cli.start.commands import start_app
from kourou.cli.status.commands import status_app
from kourou.cli.sweep.commands import sweep_app
from kourou.cli.terminal.output import report_errors
from kourou.cli.top.commands import top_app


class _Commands(TyperGroup):
    """Ends whatever command it is with a message and an exit code instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        with report_errors():
            return super().invoke(ctx)


app = typer.Typer(
    name="kourou",
    cls=_Commands,
    help="A program runtime for distributed machine learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a user's traceback as Python prints it, without pages of locals
    context_settings={"help_option_names": ["-h", "--help"]},
)

for commands in (start_app, status_app, top_app, report_app, control_app, sweep_app):
    app.add_typer(commands)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(f"kourou {kourou.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A program runtime for distributed machine learning."""
    del version  # its callback has printed it
