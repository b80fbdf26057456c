"""Values of the user's in messages: their ``__repr__`` may raise, or return megabytes."""

from __future__ import annotations


def shown(value: object, most_chars: int = 120) -> str:
    """A value as a part of a line; nothing that its class does is raised."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = f"<{type(value).__qualname__}, whose __repr__ raises>"
    return text if len(text) <= most_chars else f"{text[: most_chars - 3]}..."
