"""Values in messages: those of the user's, whose ``__repr__`` may raise or return megabytes; sizes, and many names."""

from __future__ import annotations

from collections.abc import Iterable


def shown(value: object, most_chars: int = 120) -> str:
    """A value as a part of a line; nothing that its class does is raised."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = f"<{type(value).__qualname__}, whose __repr__ raises>"
    return text if len(text) <= most_chars else f"{text[: most_chars - 3]}..."


def described(error: BaseException) -> str:
    """An error's kind and text, as the last line of a traceback says it; nothing that its class does is raised."""
    kind = type(error).__name__
    try:
        return f"{kind}: {text}" if (text := str(error)) else kind
    except Exception:  # noqa: BLE001 - its __str__ is the user's
        return f"{kind}, whose __str__ raises"


def size(size_bytes: float) -> str:
    """``512 B``, ``36 MiB``, ``1.4 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:  # noqa: PLR2004 - what the units mean
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def listed(names: Iterable[object], most: int = 5) -> str:
    """The names, or the first of them and how many more there are."""
    whole = list(map(str, names))
    return ", ".join(whole[:most]) + (f" and {len(whole) - most} more" if len(whole) > most else "")


def meant(word: object, known: Iterable[object], otherwise: str) -> str:
    """``did you mean 'actor'?``; or, where nothing is close, ``otherwise`` and all that there is."""
    import difflib  # noqa: PLC0415 - for those who mistype

    names = list(map(str, known))
    close = difflib.get_close_matches(str(word), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"{otherwise} {', '.join(names) or 'nothing'}"
