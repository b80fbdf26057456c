"""The public names are a promise: a change shows in tests/data/public_surface.txt and in CHANGELOG.md."""

from __future__ import annotations

from pathlib import Path

import kourou

SURFACE = Path(__file__).parent / "data" / "public_surface.txt"


def test_the_public_names_are_the_promised_ones() -> None:
    promised = set(SURFACE.read_text(encoding="utf-8").split())
    came, went = set(kourou.__all__) - promised, promised - set(kourou.__all__)
    assert (came, went) == (set(), set()), f"say so in {SURFACE.name} and in CHANGELOG.md"


def test_every_public_name_is_there() -> None:
    missing = [name for name in kourou.__all__ if not hasattr(kourou, name)]
    assert not missing


def test_dir_shows_every_public_name() -> None:
    assert set(kourou.__all__) <= set(dir(kourou))


def test_no_public_name_is_listed_twice() -> None:
    assert len(kourou.__all__) == len(set(kourou.__all__))
