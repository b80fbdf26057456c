"""How JAX's arrays cross: as NumPy's, whose memory they share on a CPU; on arrival they are JAX's again.

JAX's own reducer copies the whole array into the pickle stream. Arrays that live on several processes go that way,
Python numbers that have become arrays, and keys of random numbers as well.

Imported only once JAX is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def _reduce(array: Any) -> Any:
    if array.weak_type or not array.is_fully_addressable:
        return array.__reduce_ex__(2)
    return _rebuild, (np.asarray(array),)


def _rebuild(array: Any) -> Any:
    import jax  # pyright: ignore[reportMissingImports]  # noqa: PLC0415 - the receiver may not have used it before

    return jax.device_put(array)


def _reducers() -> Mapping[type, Callable[[Any], Any]]:
    try:
        # The class that jax.Array stands for; seen in 0.4 to 0.10.
        from jax._src.array import ArrayImpl  # pyright: ignore[reportMissingImports]  # noqa: PLC0415 - heavy
    except ImportError:  # another version: its own reducer does it, slowly
        return {}
    return {ArrayImpl: _reduce}


REDUCERS: Mapping[type, Callable[[Any], Any]] = _reducers()
