"""When a host, with all nodes on it, counts as lost: after a silence of ``lost_after_s``, which each end sees itself.

The launcher looks in ``launchers.dialled.transport`` and in ``launchers.ssh.connection``, the agent in ``dialling`` or,
over a pipe, where ssh has started it.

An agent that hears nothing takes its launcher for dead a little before its launcher does so with it: what it ran has
ended, then, when it is started elsewhere.
"""

from __future__ import annotations

HEARTBEATS = 4
"""Signs of life in the time after which silence means death."""
_AGENTS_SHARE = 0.8


def heartbeat_s(lost_after_s: float) -> float:
    """How often each end shows that it lives."""
    return lost_after_s / HEARTBEATS


def agents_patience_s(lost_after_s: float) -> float:
    """After so long a silence an agent ends all that it runs."""
    return lost_after_s * _AGENTS_SHARE
