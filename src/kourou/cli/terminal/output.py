"""How the commands print, and with which exit codes they end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console

from kourou import errors

FAILED = 1
"""The program failed, or what was asked for could not be done."""
BAD_USAGE = 2
"""The command line, or the program that it names, has a mistake; nothing was done."""
INTERRUPTED = 130
"""Ctrl-C, as shells number it."""

_PIPED_COLUMNS = 200  # a pipe has no width: wide enough that nothing is cut that somebody may look for

_MISTAKES = (
    errors.PlanError,
    errors.GraphError,
    errors.NotFound,
    errors.LaunchError,
    errors.MissingExtra,
    errors.UnsupportedPlatform,
    errors.UnknownMethod,
)


def console() -> Console:
    """Standard output for people: coloured and as wide as the terminal, plain and wide in a pipe."""
    _replace_unencodable("replace")
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_PIPED_COLUMNS if piped else None, highlight=False, soft_wrap=False)


def print_text(text: str) -> None:
    """Text as it is to standard output, at once."""
    _replace_unencodable("backslashreplace")
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_json(data: Any, *, indent: int | None = 2) -> None:
    """Plain JSON to standard output."""
    print_text(json.dumps(data, indent=indent, ensure_ascii=not _takes_all_characters()))


def _takes_all_characters() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def _replace_unencodable(replacement: str) -> None:
    """Replace characters that the locale's encoding does not have (C in cron jobs, Latin-1), instead of raising."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not _takes_all_characters():
        sys.stdout.reconfigure(errors=replacement)


def tell(text: str) -> None:
    """A message for whoever is at the terminal, on standard error, so that it is not in what is piped."""
    sys.stderr.write(f"kourou: {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Turn errors into a message and an exit code."""
    try:
        yield
    except errors.Interrupted as interrupted:
        raise typer.Exit(interrupted.code) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except _MISTAKES as error:
        tell(str(error))
        raise typer.Exit(BAD_USAGE) from None
    except errors.KourouError as error:
        tell(str(error))
        raise typer.Exit(FAILED) from None
    except PermissionError as error:
        tell(f"{error.filename}: permission denied; --runs-dir or KOUROU_RUNS_DIR choose another place for runs")
        raise typer.Exit(BAD_USAGE) from None
