"""Values in messages: those of the user's, whose ``__repr__`` may raise or return megabytes; and sizes."""

from __future__ import annotations


def shown(value: object, most_chars: int = 120) -> str:
    """A value as a part of a line; nothing that its class does is raised."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = f"<{type(value).__qualname__}, whose __repr__ raises>"
    return text if len(text) <= most_chars else f"{text[: most_chars - 3]}..."


def size(size_bytes: float) -> str:
    """``512 B``, ``36 MiB``, ``1.4 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:  # noqa: PLR2004 - what the units mean
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
