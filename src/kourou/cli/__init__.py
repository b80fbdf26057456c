"""The ``kourou`` command."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; installed as ``kourou``."""
    from kourou.cli.app import app  # noqa: PLC0415 - typer and rich are slow to import, and a shell completion waits

    app()
