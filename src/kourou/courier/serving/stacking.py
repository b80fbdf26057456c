"""Turn the arguments of several calls into one batch, and the result of a batch into several results."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any


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
    if isinstance(result, tuple | dict) or _is_dataclass(result):
        columns = [split(part, count, where + path) for path, part in _parts(result)]
        return [_with_parts(result, [column[index] for column in columns]) for index in range(count)]
    raise ValueError(
        f"{where} is a {type(result).__qualname__}; a batched handler returns an array, a list with an entry for each"
        " call, or a tuple, dict or dataclass of these"
    )


def _stack_parts(values: Sequence[Any], where: str) -> Any:
    first = values[0]
    if isinstance(first, tuple):
        if any(len(value) != len(first) for value in values):
            raise ValueError(f"{where} of different lengths cannot be one batch")
        columns = [list(column) for column in zip(*values, strict=True)]
    elif isinstance(first, dict):
        if any(value.keys() != first.keys() for value in values):
            raise ValueError(f"{where} with different keys cannot be one batch")
        columns = [[value[key] for value in values] for key in first]
    elif _is_dataclass(first):
        columns = [[getattr(value, name) for value in values] for name in _field_names(first)]
    else:
        return list(values)
    paths = [path for path, _ in _parts(first)]
    return _with_parts(first, [stack(column, where + path) for column, path in zip(columns, paths, strict=True)])


def _parts(whole: Any) -> list[tuple[str, Any]]:
    """The parts of a container, and the path to each."""
    if isinstance(whole, tuple):
        return [(f"[{index}]", part) for index, part in enumerate(whole)]
    if isinstance(whole, dict):
        return [(f"[{key!r}]", part) for key, part in whole.items()]
    return [(f".{name}", getattr(whole, name)) for name in _field_names(whole)]


def _with_parts(whole: Any, parts: Sequence[Any]) -> Any:
    """The same container with other parts. Its constructor is not called, since it may want other types."""
    if isinstance(whole, tuple):
        make = getattr(whole, "_make", tuple)  # named tuples have it
        return make(parts)
    if isinstance(whole, dict):
        return dict(zip(whole, parts, strict=True))
    changed = copy.copy(whole)
    for name, part in zip(_field_names(whole), parts, strict=True):
        object.__setattr__(changed, name, part)  # also of frozen ones
    return changed


def _field_names(whole: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(whole)]


def _is_dataclass(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")  # what was never imported made none of the values
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _all_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, bool | int | float) for value in values)


def _same_shapes(join: Callable[[list[Any]], Any], values: Sequence[Any], where: str) -> Any:
    shapes = {tuple(value.shape) for value in values}
    if len(shapes) > 1:
        raise ValueError(f"{where} of different shapes cannot be one batch: {sorted(shapes)}")
    return join(list(values))
