"""Streams of random numbers: one for every agent, environment and purpose, none shared, all from one seed."""

from __future__ import annotations

import operator
import random
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias, cast

from kourou.cpython import imported
from kourou.experiments.failures import DescriptionError, check_word
from kourou.extras import load_extra

if TYPE_CHECKING:  # importing kourou.experiments must not load NumPy
    import numpy as np

Purpose: TypeAlias = Literal["init", "fit", "eval"]
"""What a stream of one fit is for: making the agent, training it, or evaluating it."""

# First word of the spawn keys of seeder_for. Plain spawns count from 0, so that they meet none of these.
_PURPOSES: dict[Purpose, int] = {"init": 0x6B6F7501, "fit": 0x6B6F7502, "eval": 0x6B6F7503}


class Seeder:
    """A seed sequence and a generator of its own; the same streams as rlberry's.

    Args:
        seed_seq: an integer, a NumPy SeedSequence, or a Seeder, which advances by one spawn; None: fresh entropy.
        spawn_seed_seq: whether to use a child of the sequence (usual), so that the sequence itself stays for others.
    """

    def __init__(self, seed_seq: Seed = None, spawn_seed_seq: bool = True) -> None:  # noqa: FBT001, FBT002 - rlberry's
        self._use(seed_seq, spawn=spawn_seed_seq)

    def _use(self, seed_seq: Seed, *, spawn: bool) -> None:
        sequence = _seed_sequence(seed_seq)
        self.seed_seq: np.random.SeedSequence = sequence.spawn(1)[0] if spawn else sequence
        self.rng: np.random.Generator = load_extra("numpy").random.default_rng(self.seed_seq)

    def reseed(self, seed_seq: Seed = None) -> None:
        """Start again from another seed, as if made anew; None: from fresh entropy."""
        self._use(seed_seq, spawn=True)

    def spawn(self, n: int = 1, squeeze: bool = True) -> Any:  # noqa: FBT001, FBT002 - rlberry's signature
        """Make independent seeders, others at every call.

        Args:
            n: how many.
            squeeze: whether a single one is returned by itself instead of in a list.

        Returns:
            A Seeder, or a list of them.
        """
        seeders = [Seeder(child, spawn_seed_seq=False) for child in self.seed_seq.spawn(n)]
        return seeders[0] if squeeze and n == 1 else seeders

    def generate_state(self, n: int) -> Any:
        """An array of ``n`` 32-bit words that depend on the seed only, for generators of other packages."""
        return self.seed_seq.generate_state(n)

    def __repr__(self) -> str:
        return f"Seeder({self.seed_seq!r})"


Seed: TypeAlias = "int | np.random.SeedSequence | Seeder | None"


def seeder_for(root: Seed, *, purpose: Purpose, fit: int, call: int = 0) -> Seeder:
    """The seeder of one fit and one purpose. It depends on these arguments and nothing else.

    So the first four of eight fits are the four of an experiment with four, whatever ran before and in which order.
    ``root`` does not advance.

    Args:
        root: the experiment's seed.
        purpose: what for.
        fit: the number of the fit, from 0.
        call: which of the fit's calls of ``fit`` or ``eval`` this is, counted from 0.

    Raises:
        DescriptionError: no such purpose, or a number below 0.
    """
    check_word("purpose is", purpose, _PURPOSES, DescriptionError)
    if fit < 0 or call < 0:
        raise DescriptionError(f"fits and calls count from 0, got fit {fit} and call {call}")
    sequence = _seed_sequence(root)
    key = (*sequence.spawn_key, _PURPOSES[purpose], fit, call)
    child = type(sequence)(sequence.entropy, spawn_key=key, pool_size=sequence.pool_size)
    return Seeder(child, spawn_seed_seq=False)


def seed_globals(seeder: Seeder) -> None:
    """Seed the generators that are global to this process: Python's, NumPy's and, once it is imported, torch's.

    Two fits in threads of one process share them, so they must not both rely on this.
    """
    python_seed, numpy_seed, torch_seed = (int(word) for word in seeder.generate_state(3))
    random.seed(python_seed)
    load_extra("numpy").random.seed(numpy_seed)
    if (torch := imported("torch")) is not None:
        torch.manual_seed(torch_seed)


def safe_reseed(obj: Any, seeder: Seeder, reseed_spaces: bool = True) -> bool:  # noqa: FBT001, FBT002 - rlberry's
    """Reseed an environment or agent by whichever method it has: ``reseed``, ``seed`` or ``reset(seed=)``.

    The numbers are those that rlberry draws.

    Args:
        obj: what to reseed.
        seeder: handed to ``reseed``; else its generator draws the seed.
        reseed_spaces: whether to seed ``observation_space`` and ``action_space`` as well, if there is the former.

    Returns:
        Whether ``obj`` itself has one of these methods.
    """
    reseeded = _reseed(obj, seeder)
    for name in ("observation_space", "action_space") if reseed_spaces else ():
        if not hasattr(obj, name):
            break
        safe_reseed(getattr(obj, name), seeder)
    return reseeded


def _reseed(obj: Any, seeder: Seeder) -> bool:
    if _try_call(obj, "reseed", seeder):
        return True
    number = int(seeder.rng.integers(2**32))
    return _try_call(obj, "seed", number) or _try_call(obj, "reset", seed=number)


def _try_call(obj: Any, method: str, *args: Any, **kwargs: Any) -> bool:
    try:
        getattr(obj, method)(*args, **kwargs)
    except (TypeError, AttributeError, NotImplementedError):
        return False  # no such method, one with another signature, or one that a wrapper promises and lacks
    return True


def _seed_sequence(seed: Seed) -> np.random.SeedSequence:
    sequence_class = load_extra("numpy").random.SeedSequence
    if isinstance(seed, Seeder):
        return seed.seed_seq
    sequence: np.random.SeedSequence
    if isinstance(seed, sequence_class):
        sequence = cast("np.random.SeedSequence", seed)
    elif seed is None:
        sequence = sequence_class()
    elif isinstance(seed, bool) or not isinstance(seed, SupportsIndex):
        raise DescriptionError(f"a seed is an integer, a SeedSequence, a Seeder or None, got {seed!r}")
    elif operator.index(seed) < 0:
        raise DescriptionError(f"a seed is at least 0, got {seed!r}")
    else:
        sequence = sequence_class(operator.index(seed))
    return sequence
