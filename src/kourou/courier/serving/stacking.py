"""Turn the arguments of several calls into one batch, and the result of a batch into several results."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

from kourou.cpython import imported
from kourou.nested import Parts, parts_of


def stack(values: Sequence[Any], where: str = "the arguments") -> Any:
    """One batch of several values of the same kind.

    NumPy arrays and torch tensors get a new first axis; numbers, bools and bytes become 1-d arrays; tuples, named
    tuples, dicts and dataclasses are gone through; anything else (str, None, list, …) becomes a list.

    Raises:
        ValueError: the values differ in shape, keys or kind.
    """
    first = values[0]
    if any(type(value) is not type(first) for value in values) and not _all_numbers(values):
        kinds = ", ".join(sorted({type(value).__qualname__ for value in values}))
        raise ValueError(f"{where} of different kinds cannot be one batch: {kinds}")
    if _is_tensor(first):
        return _same_shapes(sys.modules["torch"].stack, values, where)
    if _is_array(first):
        return _same_shapes(sys.modules["numpy"].stack, values, where)
    if isinstance(first, bool | int | float):
        import numpy as np  # noqa: PLC0415 - importing kourou must not import NumPy

        return np.array(values)
    if isinstance(first, bytes):
        import numpy as np  # noqa: PLC0415

        return np.array(values, dtype=object)  # NumPy's own bytes dtype would drop zeros at the end
    return _stack_parts(values, where)


def split(result: Any, count: int, where: str = "the result") -> list[Any]:
    """The results of ``count`` calls from what a handler returned for a batch of (at least) ``count``.

    Arrays, tensors and lists are divided along their first axis; tuples, named tuples, dicts and dataclasses are
    gone through; None is None for everybody.

    Raises:
        ValueError: there are fewer results than calls, or something that cannot be divided.
    """
    if result is None:
        return [None] * count
    if isinstance(result, list) or ((_is_tensor(result) or _is_array(result)) and result.ndim):
        if len(result) < count:
            raise ValueError(f"{where} has {len(result)} entries for a batch of {count}")
        return [result[index] for index in range(count)]
    if (whole := _parts(result)) is not None:
        form, names, parts = whole
        columns = [split(part, count, where + form.step(name)) for name, part in zip(names, parts, strict=True)]
        return [form.rebuild(result, names, [column[index] for column in columns]) for index in range(count)]
    raise ValueError(
        f"{where} is a {type(result).__qualname__}; a batched handler returns an array, a list with an entry for each"
        " call, or a tuple, dict or dataclass of these"
    )


def _stack_parts(values: Sequence[Any], where: str) -> Any:
    first = _parts(values[0])
    if first is None:
        return list(values)
    rows = []
    for _, names, parts in filter(None, map(_parts, values)):
        known = dict(zip(names, parts, strict=True)) if names != first.names else None
        if known is not None and (len(known) != len(first.names) or any(name not in known for name in first.names)):
            how = "of different lengths" if isinstance(values[0], tuple) else "with different keys"
            raise ValueError(f"{where} {how} cannot be one batch")
        rows.append(parts if known is None else [known[name] for name in first.names])
    paths = [where + first.form.step(name) for name in first.names]
    stacked = [stack(column, path) for column, path in zip(zip(*rows, strict=True), paths, strict=True)]
    return first.form.rebuild(values[0], first.names, stacked)


def _parts(value: object) -> Parts | None:
    """What is in a tuple, a dict or a dataclass; None for anything else."""
    is_container = isinstance(value, tuple | dict) or dataclasses.is_dataclass(value)
    return parts_of(value) if is_container else None


def _is_array(value: object) -> bool:
    numpy = imported("numpy")  # what was never imported made none of the values
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _is_tensor(value: object) -> bool:
    torch = imported("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _all_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, bool | int | float) for value in values)


def _same_shapes(join: Callable[[list[Any]], Any], values: Sequence[Any], where: str) -> Any:
    shapes = {tuple(value.shape) for value in values}
    if len(shapes) > 1:
        raise ValueError(f"{where} of different shapes cannot be one batch: {sorted(shapes)}")
    return join(list(values))
