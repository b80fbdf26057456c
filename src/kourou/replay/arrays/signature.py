"""What the data of a table looks like, so that data of another kind is refused where it is made."""

from __future__ import annotations

import dataclasses
from typing import Any

from kourou.errors import SignatureError
from kourou.replay.arrays.array_types import np
from kourou.replay.arrays.tree import Path, TreeDef, flatten, path_text
from kourou.shown import shown


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of one array.

    Args:
        shape: None for a dimension of any length; None as a whole for any shape.
        dtype: anything that NumPy takes for one.
        name: for messages and readers.
    """

    shape: tuple[int | None, ...] | None
    dtype: Any
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(self.shape))

    def problem(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> str | None:
        """What is wrong with an array of such a dtype and shape; None for nothing."""
        any_length = self.dtype.kind in "US" and not self.dtype.itemsize  # of ``str`` and ``bytes``
        if dtype.kind != self.dtype.kind if any_length else dtype != self.dtype:
            return f"the dtype is {dtype}, the signature says {self.dtype}"
        if self.shape is None:
            return None
        fits = len(shape) == len(self.shape) and all(
            want is None or have == want for have, want in zip(shape, self.shape, strict=True)
        )
        return None if fits else f"the shape is {shape}, the signature says {self.shape}"


@dataclasses.dataclass(frozen=True)
class Signature:
    """The specs of all arrays of an item, by their paths."""

    structure: TreeDef
    specs: tuple[TensorSpec, ...]

    @staticmethod
    def of(nested: Any) -> Signature:
        """The signature of nested specs: anything with ``shape`` and ``dtype`` is one.

        Raises:
            TypeError: a leaf is not.
        """
        if isinstance(nested, Signature):
            return nested
        structure, leaves = flatten(nested)
        specs = []
        for path, leaf in zip(structure.paths, leaves, strict=True):
            if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
                raise TypeError(f"the signature{path_text(path)} is no spec (shape and dtype): {shown(leaf)}")
            specs.append(TensorSpec(leaf.shape, leaf.dtype, getattr(leaf, "name", None) or ""))
        return Signature(structure, tuple(specs))

    def check(self, structure: TreeDef, kinds: list[tuple[np.dtype[Any], tuple[int, ...]]], what: str) -> None:
        """Compare an item with the signature.

        Raises:
            SignatureError: names the path that differs, and how.
        """
        have: dict[Path, tuple[np.dtype[Any], tuple[int, ...]]] = dict(zip(structure.paths, kinds, strict=True))
        want = dict(zip(self.structure.paths, self.specs, strict=True))
        for path in have:
            if path not in want:
                raise SignatureError(f"{what}: the item has{path_text(path)}, its signature has not")
        for path, spec in want.items():
            if path not in have:
                raise SignatureError(f"{what}: the item lacks{path_text(path)}, which is in its signature")
            problem = spec.problem(*have[path])
            if problem:
                raise SignatureError(f"{what}: of the item's{path_text(path)} {problem}")
