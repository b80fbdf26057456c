"""What JSON can hold of a value that a node returned."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from kourou.shown import shown

_PLAIN = (str, int, float, bool, type(None))


def as_json_value(value: Any) -> Any:
    """Arrays and tensors become lists; dataclasses and named tuples objects; what has no form in JSON its repr."""
    if type(value) in _PLAIN:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: as_json_value(getattr(value, field.name)) for field in fields}
    convert = getattr(value, "_asdict", None) or getattr(value, "tolist", None)  # named tuples'; NumPy's and torch's
    if convert is not None:
        value = convert()
    if isinstance(value, dict):
        return {str(key): as_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json_value(item) for item in value]
    return value if isinstance(value, _PLAIN) else shown(value, sys.maxsize)
