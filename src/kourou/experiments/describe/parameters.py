"""Combinations of parameters: lists and grids, with Sample Factory's signatures and order."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from kourou.experiments.describe.constraints import Condition, predicate_of
from kourou.experiments.failures import DescriptionError

T = TypeVar("T")
Params: TypeAlias = "dict[str, Any]"
ParamNames: TypeAlias = "str | tuple[str, ...]"
"""The name of a parameter, or of several that take their values together."""


class ParamGenerator:
    """Generates combinations of parameters; this one has none."""

    def generate_params(self, randomize: bool = True, *, seed: int = 0) -> Iterator[Params]:  # noqa: ARG002, FBT001, FBT002
        """Yield one dictionary for each combination.

        Args:
            randomize: whether to shuffle. The values keep their types.
            seed: of the shuffle: the same one gives the same order on every machine, so that a run keeps its name.
        """
        return iter(())


class ParamList(ParamGenerator):
    """Combinations that are listed one by one.

    Args:
        combinations: dictionaries of parameters.
        where: a condition; combinations that do not meet it are left out.
    """

    def __init__(self, combinations: Iterable[Mapping[str, Any]], *, where: Condition = None) -> None:
        self.combinations: list[Params] = []
        for number, combination in enumerate(combinations):
            if not isinstance(combination, Mapping):
                raise DescriptionError(f"combination {number} is a dictionary of parameters, got {combination!r}")
            check_names(combination, f"combination {number}")
            self.combinations.append(dict(combination))
        self._where = predicate_of(where)

    def generate_params(self, randomize: bool = True, *, seed: int = 0) -> Iterator[Params]:  # noqa: FBT001, FBT002
        """Yield the combinations, shuffled unless told otherwise, as Sample Factory does."""
        chosen = [dict(combination) for combination in self.combinations if self._where(combination)]
        return iter(shuffled(chosen, seed) if randomize else chosen)


class ParamGrid(ParamGenerator):
    """All combinations of some values; the first parameter varies slowest.

    Args:
        grid_tuples: ``(name, values)``, or ``((name, name), (values, values))`` for parameters that vary together:
            ``(("use_rnn", "recurrence"), ([False, 1], [True, 16]))``.
        where: a condition; combinations that do not meet it are left out.

    Raises:
        DescriptionError: a name twice, no values, or values that do not match their names.
    """

    def __init__(self, grid_tuples: Iterable[tuple[Any, Iterable[Any]]], *, where: Condition = None) -> None:
        self.grid: dict[ParamNames, list[Any]] = {}
        for names, values in grid_tuples:
            key = names if isinstance(names, str) else tuple(names)
            if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
                raise DescriptionError(f"the values of {_shown(key)} are a list, got {values!r}")
            check_names(itertools.chain(*map(_as_tuple, (*self.grid, key))), "the grid")
            self.grid[key] = [_checked(key, value) for value in values]
            if not self.grid[key]:
                raise DescriptionError(f"the grid has no values for {_shown(key)}, so it has no combinations")
        self._where = predicate_of(where)

    def generate_params(self, randomize: bool = False, *, seed: int = 0) -> Iterator[Params]:  # noqa: FBT001, FBT002
        """Yield the combinations, in order unless told otherwise, as Sample Factory does."""
        if not self.grid:
            return iter(())
        rows = itertools.product(*self.grid.values())
        combinations = (assigned(zip(self.grid, row, strict=True)) for row in rows)
        chosen = (params for params in combinations if self._where(params))
        return iter(shuffled(chosen, seed)) if randomize else chosen


def assigned(pairs: Iterable[tuple[ParamNames, Any]]) -> Params:
    """Parameters by single names: values for several names are dealt out."""
    params: Params = {}
    for names, value in pairs:
        params.update(zip(_as_tuple(names), value if isinstance(names, tuple) else (value,), strict=True))
    return params


def shuffled(items: Iterable[T], seed: int) -> list[T]:
    """Items in an order that depends on their number and the seed, and on no version of any library."""
    listed = list(items)
    order = sorted(range(len(listed)), key=lambda i: hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=16).digest())
    return [listed[i] for i in order]


def check_names(names: Iterable[Any], where: str) -> None:
    """Refuse what cannot be a parameter's name, and names that come twice.

    Raises:
        DescriptionError: with the name and where it is.
    """
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not name or not name.isprintable() or set(name) & set(" ="):
            raise DescriptionError(f"{where}: a parameter's name is a text without spaces and =, got {name!r}")
        if name in seen:
            raise DescriptionError(f"{where} has parameter {name!r} twice, and one would replace the other")
        seen.add(name)


def _checked(names: ParamNames, value: Any) -> Any:
    if isinstance(names, str):
        return value
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != len(names):
        raise DescriptionError(f"{_shown(names)} need {len(names)} values at a time, got {value!r}")
    return value


def _as_tuple(names: ParamNames) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _shown(names: ParamNames) -> str:
    return names if isinstance(names, str) else f"({', '.join(map(str, names))})"
