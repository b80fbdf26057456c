"""What a host has to hand out, CPUs and GPUs, and who gets which."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TypeVar

from kourou import errors
from kourou.runtime.model.gpus import masked, read_gpus

T = TypeVar("T")

_PARTS = 1000  # a device is handed out in thousandths: exact, where floats would lose a rounding error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inventory:
    """The CPUs and GPUs that a launcher may use.

    Tests make one by hand: ``lp.Inventory(cpus=(0, 1), gpus=("2", "3"))``.
    """

    cpus: tuple[int, ...]
    """Numbers of the CPUs."""
    gpus: tuple[str, ...] = ()
    """What CUDA_VISIBLE_DEVICES calls the GPUs: numbers, UUIDs or MIG names."""

    @classmethod
    def of_this_process(cls, environ: Mapping[str, str] = os.environ, *, with_gpus: bool = True) -> Inventory:
        """What this process itself was given: its CPU affinity, and the GPUs of its CUDA_VISIBLE_DEVICES.

        Without that variable, all of the machine's NVIDIA GPUs by their UUIDs, and parts of those that MIG has divided.

        Args:
            environ: where the variable is looked for.
            with_gpus: whether GPUs matter; a driver may take a second to answer.
        """
        if not with_gpus:
            return cls(cpus=_allowed_cpus())
        mask = environ.get("CUDA_VISIBLE_DEVICES")
        gpus = masked(mask) if mask is not None else tuple(gpu.names[0] for gpu in read_gpus())
        return cls(cpus=_allowed_cpus(), gpus=gpus)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What one node asks for. None: no claim, and no limit."""

    name: str
    cpus: float | None = None
    gpus: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allocation:
    """What one node gets; None where it made no claim."""

    cpus: tuple[int, ...] | None = None
    gpus: tuple[str, ...] | None = None


def allocate(
    requests: Sequence[Request], inventory: Inventory, held: Sequence[tuple[Request, Allocation]] = ()
) -> dict[str, Allocation]:
    """Hand out devices: whole ones to one node each, fractions of one shared by nodes that fit on it together.

    Args:
        requests: in the order of the program; the result depends on nothing else.
        inventory: what there is.
        held: what others asked for, and have.

    Returns:
        node name → what it gets.

    Raises:
        PlanError: more is asked for than there is; it says by whom.
    """
    held_cpus = [(other.cpus or 0.0, has.cpus or ()) for other, has in held]
    held_gpus = [(other.gpus or 0.0, has.gpus or ()) for other, has in held]
    cpus = _hand_out({r.name: r.cpus for r in requests if r.cpus is not None}, inventory.cpus, "CPU", held_cpus)
    gpus = _hand_out({r.name: r.gpus for r in requests if r.gpus is not None}, inventory.gpus, "GPU", held_gpus)
    return {r.name: Allocation(cpus=cpus.get(r.name), gpus=gpus.get(r.name)) for r in requests}


def _hand_out(
    claims: Mapping[str, float], devices: Sequence[T], kind: str, held: Sequence[tuple[float, tuple[T, ...]]]
) -> dict[str, tuple[T, ...]]:
    parts = {name: round(claim * _PARTS) for name, claim in claims.items()}
    free = dict.fromkeys(devices, _PARTS)
    for claim, taken in held:
        for device in taken:
            if device in free:
                free[device] -= min(round(claim * _PARTS), _PARTS)
    there = [device for device in devices if free[device]]
    given: dict[str, tuple[T, ...]] = {}
    # Whole devices first: fractions then share what is left, and never split a device that somebody needs whole.
    for name in sorted(parts, key=lambda n: parts[n] < _PARTS):
        wanted = parts[name]
        if wanted < _PARTS:
            fitting = [device for device in free if free[device] >= wanted]
            chosen = sorted(fitting, key=free.__getitem__)[: min(1, wanted)]  # the fullest that still has room
        else:
            chosen = [device for device in free if free[device] == _PARTS][: wanted // _PARTS]
        if len(chosen) < -(-wanted // _PARTS):
            raise errors.PlanError(_refusal(claims, there, len(devices) - len(there), kind))
        for device in chosen:
            free[device] -= min(wanted, _PARTS)
        given[name] = tuple(chosen)
    return given


def _refusal(claims: Mapping[str, float], devices: Sequence[object], taken: int, kind: str) -> str:
    by_label: dict[str, list[float]] = {}
    for name, claim in claims.items():
        by_label.setdefault(name.rpartition("/")[0], []).append(claim)
    asked = ", ".join(f"{label} {len(each)}×{each[0]:g}" for label, each in by_label.items())
    names = ", ".join(str(device) for device in devices) or "none"
    remedy = f"ask for less, or for fractions of a {kind}, which nodes share"
    if not devices and not taken:
        remedy = "ask for none, or launch where there are some"
    return (
        f"{sum(claims.values()):g} {kind}s are asked for ({asked}), but the launcher may use {len(devices)} ({names})"
        f"{f' beside {taken} that other nodes have' if taken else ''}: {remedy}"
    )


def _allowed_cpus() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
