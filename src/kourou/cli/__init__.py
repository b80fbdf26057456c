"""The ``kourou`` command."""

from __future__ import annotations

import gc
import os
import sys

from kourou.later import importing

__all__ = ["main"]


def main() -> None:
    """Run the command line; installed as ``kourou``."""
    with importing():
        from kourou.cli.app import app  # noqa: PLC0415 - typer and rich are slow to import, and a shell completion waits

    gc.freeze()  # it stays, and neither collections nor the interpreter's end need to look through it
    _open_what_is_closed()
    app()


def _open_what_is_closed() -> None:
    """A shell's ``>&-`` leaves nothing to write to; nor may the next file that is opened be taken for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - for as long as we are
