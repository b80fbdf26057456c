"""Searching a space of parameters at random or evenly, where a grid would have too many points."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kourou.experiments.describe.constraints import Condition, predicate_of
from kourou.experiments.describe.parameters import (
    ParamGenerator,
    ParamNames,
    Params,
    assigned,
    check_names,
    shuffled,
)
from kourou.experiments.describe.runs import setting_id
from kourou.experiments.failures import DescriptionError
from kourou.extras import load_extra

_TRIES_PER_COMBINATION = 1000
"""A condition that fewer than one draw in a thousand meets is taken for a mistake."""
_SOBOL_BITS = 32
_SOBOL_BLOCK = 256
"""Points that are drawn at once; SciPy warns of a number that is no power of 2."""


class Distribution(ABC):
    """What values a parameter takes, and how often."""

    @abstractmethod
    def at(self, position: float) -> Any:
        """The value at a position from 0 (inclusive) to 1 (exclusive) of all values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform(Distribution):
    """Real numbers, all alike."""

    low: float
    """The lowest."""
    high: float
    """The highest."""
    log: bool = False
    """Whether their logarithms are alike, as fits learning rates."""

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, log=self.log)

    def at(self, position: float) -> float:
        """The number at this share of the way from low to high."""
        if self.log:
            return math.exp(_interpolate(math.log(self.low), math.log(self.high), position))
        return _interpolate(self.low, self.high, position)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Integers(Distribution):
    """Whole numbers, all alike."""

    low: int
    """The lowest."""
    high: int
    """The highest; it is one of them."""
    log: bool = False
    """Whether their logarithms are alike, as fits sizes."""

    def __post_init__(self) -> None:
        if not all(isinstance(bound, int) for bound in (self.low, self.high)):
            raise DescriptionError(f"the bounds of whole numbers are such, got {self.low!r} and {self.high!r}")
        _check_bounds(self.low, self.high, log=self.log)

    def at(self, position: float) -> int:
        """The whole number at this share of the way from low to high."""
        if self.log:
            value = math.exp(_interpolate(math.log(self.low - 0.5), math.log(self.high + 0.5), position))
            return min(self.high, max(self.low, round(value)))
        return self.low + int(position * (self.high - self.low + 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice(Distribution):
    """One of some values, all alike."""

    values: Sequence[Any]
    """What there is to choose from."""

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Sequence) or not self.values:
            raise DescriptionError(f"a choice has a list of values, got {self.values!r}")

    def at(self, position: float) -> Any:
        """The value at this share of the list."""
        return self.values[int(position * len(self.values))]


class SpaceSearch(ParamGenerator, ABC):
    """Combinations drawn from a space. A combination depends on the seed and its number, so asking for more keeps all.

    Args:
        space: parameter (or several that vary together, as in a ParamGrid) → its distribution, or a list of values.
        n: how many combinations; all are different.
        seed: another one gives other combinations.
        where: a condition; combinations that do not meet it are passed over.

    Raises:
        DescriptionError: no space, or no combinations.
    """

    def __init__(
        self,
        space: Mapping[Any, Distribution | Sequence[Any]],
        n: int,
        *,
        seed: int = 0,
        where: Condition = None,
    ) -> None:
        if not space or n < 1:
            raise DescriptionError(f"a search has a space and at least 1 combination, got {dict(space)!r} and {n}")
        check_names([name for names in space for name in ((names,) if isinstance(names, str) else names)], "the space")
        self.space = {names: d if isinstance(d, Distribution) else Choice(values=d) for names, d in space.items()}
        for names, distribution in self.space.items():
            if isinstance(names, tuple) and not _has_rows_of(distribution, len(names)):
                raise DescriptionError(f"({', '.join(names)}) need a list of choices with {len(names)} values each")
        self.n = n
        self.seed = seed
        self._where = predicate_of(where)

    def generate_params(self, randomize: bool = False, *, seed: int = 0) -> Iterator[Params]:  # noqa: FBT001, FBT002
        """Yield the combinations as drawn; shuffled if told so, which another ``seed`` than the search's is for.

        Raises:
            DescriptionError: too few combinations are different and meet the condition.
        """
        return iter(shuffled(self._drawn(), seed) if randomize else self._drawn())

    def _drawn(self) -> list[Params]:
        chosen: dict[str, Params] = {}
        for positions in itertools.islice(self._positions(), self.n * _TRIES_PER_COMBINATION):
            pairs = zip(self.space.items(), positions, strict=True)
            params = assigned([(names, distribution.at(position)) for (names, distribution), position in pairs])
            if self._where(params):
                chosen.setdefault(setting_id("", params, {}), params)
                if len(chosen) == self.n:
                    return list(chosen.values())
        raise DescriptionError(
            f"only {len(chosen)} different combinations that meet the condition were found in "
            f"{self.n * _TRIES_PER_COMBINATION} draws, and {self.n} are asked for"
        )

    @abstractmethod
    def _positions(self) -> Iterator[Sequence[float]]:
        """For each combination one position from 0 to 1 for each parameter, without end."""


class RandomSearch(SpaceSearch):
    """Combinations at random; adding a parameter to the space leaves the values of the others.

    The arguments are a space, a number, a seed and a condition, as ``SpaceSearch`` documents them.
    """

    def _positions(self) -> Iterator[Sequence[float]]:
        for number in itertools.count():
            yield [(_hash64(self.seed, names, number) >> 11) / 2**53 for names in self.space]


class SobolSearch(SpaceSearch):
    """Combinations that cover the space evenly, best with a power of 2 of them: a Sobol sequence.

    The arguments are a space, a number, a seed and a condition, as ``SpaceSearch`` documents them. Drawing them needs
    SciPy (extra ``experiments``).
    """

    def _positions(self) -> Iterator[Sequence[float]]:
        # A digital shift for each parameter, from its name: SciPy's own scrambling would give all parameters other
        # values as soon as one is added.
        shifts = [_hash64(self.seed, names, "shift") >> 32 for names in self.space]
        sequence = load_extra("scipy.stats").qmc.Sobol(len(shifts), scramble=False, bits=_SOBOL_BITS)
        while True:
            digits = (sequence.random(_SOBOL_BLOCK) * 2**_SOBOL_BITS).astype("uint64")
            yield from ((digits ^ load_extra("numpy").array(shifts, "uint64")) / 2**_SOBOL_BITS).tolist()


def _hash64(seed: int, names: ParamNames, what: int | str) -> int:
    """64 bits that depend on the arguments only."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{names}/{what}".encode(), digest_size=8).digest(), "big")


def _interpolate(low: float, high: float, position: float) -> float:
    return min(high, low + (high - low) * position)


def _has_rows_of(distribution: Distribution, count: int) -> bool:
    return isinstance(distribution, Choice) and all(
        isinstance(value, Sequence) and not isinstance(value, str) and len(value) == count
        for value in distribution.values
    )


def _check_bounds(low: float, high: float, *, log: bool) -> None:
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not math.isfinite(bound):
            raise DescriptionError(f"a bound is a number, got {bound!r}")
    if low > high or (log and low <= 0):
        raise DescriptionError(f"bounds go from low to high{', above 0 for a logarithm' * log}; got {low} and {high}")
