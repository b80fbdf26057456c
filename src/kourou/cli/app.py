"""The command line: the commands of the rooms beside this module, as one application."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_name

import kourou
from kourou.cli.control.commands import control_app
from kourou.cli.report.commands import report_app
from kourou.cli.start.commands import start_app
from kourou.cli.status.commands import status_app
from kourou.cli.sweep.commands import sweep_app
from kourou.cli.terminal.output import report_errors
from kourou.cli.top.commands import top_app
from kourou.later import importing

_ROOMS = (start_app, status_app, top_app, report_app, control_app, sweep_app)


class _MadeLater(Mapping[str, Any]):
    """The commands by name, each made when it is asked for: typer reads all of a function's annotations for that."""

    def __init__(self) -> None:
        self._made_of: dict[str, typer.Typer] = {}
        for room in _ROOMS:
            if isinstance(room.info.name, str):  # a command with commands of its own
                self._made_of[room.info.name] = room
                continue
            for command in room.registered_commands:
                assert command.callback is not None  # noqa: S101 - it is a decorated function
                alone = typer.Typer(add_completion=False)
                alone.registered_commands.append(command)
                self._made_of[command.name or get_command_name(command.callback.__name__)] = alone
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = typer.main.get_command(self._made_of[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made_of)

    def __len__(self) -> int:
        return len(self._made_of)


class _Commands(TyperGroup):
    """Ends whatever command it is with a message and an exit code instead of a traceback."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _MadeLater()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with importing():  # what typer checks values with
            return super().parse_args(ctx, args)

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
