"""What is said of a program's state."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from typing import Any

from kourou.shown import listed

_MOST_NAMED = 4
_MINUTE_S = 60


class Severity(str, enum.Enum):
    """How bad it is."""

    NOTE = "note"
    """Worth knowing; the program goes on."""
    WARNING = "warning"
    """Some nodes make no progress at present: they may have to wait, or may wait for ever."""
    ERROR = "error"
    """Without help it will not go on, or it has failed."""

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is the matter."""

    severity: Severity
    kind: str
    """``cycle``, ``starved_table``, ``not_ready``, ``silent``, ``handler``, ``pool``, ``batch``, ``weights``, ``slow``,
    ``stopping``, ``restarted``, ``failed``, ``idle`` …"""
    nodes: tuple[str, ...]
    """Who is to blame, or what it is about; those who wait are in ``waiters``."""
    text: str
    for_s: float | None = None
    """How long it has been so; None: not known."""
    ends: str = ""
    """What would end it."""
    details: tuple[str, ...] = ()
    waiters: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return {**dataclasses.asdict(self), "severity": str(self.severity)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found, the worst first."""

    run_id: str
    state: str
    findings: tuple[Finding, ...]
    summary: str = ""

    @property
    def healthy(self) -> bool:
        """Nothing is worse than a note."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)

    @property
    def severity(self) -> Severity:
        """Of the worst finding."""
        return max((finding.severity for finding in self.findings), key=list(Severity).index, default=Severity.NOTE)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able copy."""
        return {
            "run_id": self.run_id,
            "state": self.state,
            "healthy": self.healthy,
            "severity": str(self.severity),
            "summary": self.summary,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        lines = [f"run {self.run_id} ({self.state}): {self.summary}"]
        for finding in self.findings:
            lines.append(f"{finding.severity}: {finding.text}")
            lines += [f"    {line}" for line in finding.details]
            if finding.ends:
                lines.append(f"    ends: {finding.ends}")
        return "\n".join(lines)


def seconds(for_s: float | None) -> str:
    """``3 s``, ``5 min``."""
    if for_s is None:
        return "some time"
    return f"{for_s:.0f} s" if for_s < 2 * _MINUTE_S else f"{for_s / _MINUTE_S:.0f} min"


def counted(names: Iterable[str]) -> str:
    """The names, each once, or some of them and how many more there are."""
    return listed(dict.fromkeys(names), _MOST_NAMED)
