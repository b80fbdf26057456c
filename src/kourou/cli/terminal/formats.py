"""Durations, sizes and rates in a few characters; and durations and sizes as people type them."""

from __future__ import annotations

import re

from kourou import errors, shown

UNKNOWN = "–"
"""Printed for a figure that is not known."""

_UNIT_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration(seconds: float | None) -> str:
    """``0.4s``, ``12s``, ``3m 20s``, ``2h 05m``, ``4d 03h``."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:  # noqa: PLR2004 - below that a second is a coarse unit
        return f"{max(0.0, seconds):.1f}s"
    whole = int(seconds)
    for unit, smaller in (("d", "h"), ("h", "m"), ("m", "s")):
        big, small = int(_UNIT_S[unit]), int(_UNIT_S[smaller])
        if whole >= big:
            return f"{whole // big}{unit} {whole % big // small:02d}{smaller}"
    return f"{whole}s"


def size(size_bytes: float | None) -> str:
    """``512 B``, ``36 MiB``, ``1.4 GiB``."""
    return UNKNOWN if size_bytes is None else shown.size(size_bytes)


def percent(value: float | None) -> str:
    """``7`` or ``103``: percent of one core."""
    return UNKNOWN if value is None else f"{value:.0f}"


def rate(per_second: float | None) -> str:
    """``0``, ``0.3``, ``12``, ``1,234``, ``56k``."""
    if per_second is None:
        return UNKNOWN
    if 0 < per_second < 9.95:  # noqa: PLR2004 - rounds to less than 10
        return f"{per_second:.1f}"
    if per_second < 99_950:  # noqa: PLR2004 - six characters
        return f"{per_second:,.0f}"
    return f"{per_second / 1000:,.0f}k"


def parse_duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``15m``, ``12h``, ``7d`` or ``2w``.

    Raises:
        PlanError: it is none of these.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw]?)\s*", text)
    if match is None:
        raise errors.PlanError(f"{text!r} is no duration: write a number and one of s, m, h, d, w, such as 7d")
    return float(match[1]) * _UNIT_S[match[2] or "s"]


def parse_size(text: str) -> int:
    """Bytes of ``512M``, ``1.5G`` or ``16GiB``: units are powers of 1024.

    Raises:
        PlanError: it is none of these.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None or not float(match[1]):
        raise errors.PlanError(f"{text!r} is no size: write a number and one of K, M, G, T, such as 16G")
    return int(float(match[1]) * _UNIT_BYTES[match[2].upper()])
