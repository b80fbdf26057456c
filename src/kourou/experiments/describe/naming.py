"""Names of runs: Sample Factory's, such as ``03_exp_see_1111_l.rat_0.001``, and folders that can bear them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from kourou.experiments.failures import DescriptionError

_SEPARATORS = re.compile(r"[._-]")
_MAX_FOLDER_BYTES = 200
"""File systems take 255; the rest is for endings such as .log.1."""
_KEPT_BYTES = 180


def shorthands(params: Mapping[str, Any]) -> dict[str, str]:
    """Short names of parameters: first letters, three of the last word, more where another has the same.

    ``learning_rate`` → ``l.rat``. Two names whose last words are used up get the same one, as in the original.

    Raises:
        DescriptionError: a name with an empty word, such as ``a__b``.
    """
    short: dict[str, str] = {}
    for name in params:
        *words, last = _SEPARATORS.split(name)
        if not all((*words, last)):
            raise DescriptionError(
                f"parameter {name!r} has an empty word between its '.', '_' and '-', so it has no short name: "
                "rename it, or set customize_experiment_name=False"
            )
        initials = [word[0] for word in words]
        for length in range(min(3, len(last)), len(last) + 1):
            short[name] = ".".join([*initials, last[:length]])
            if list(short.values()).count(short[name]) == 1:
                break
    return short


def run_name(index: int, base_name: str, params: Mapping[str, Any], *, customize: bool) -> str:
    """The name of a run: its index, its experiment's name and, if it is customized, its parameters."""
    if not customize:
        return f"{index:02d}_{base_name}"
    words = [f"{short}_{params[name]}" for name, short in shorthands(params).items()]
    return f"{index:02d}_" + "_".join([base_name, *words])


def folder_name(name: str) -> str:
    """A run's name as that of one folder: what no folder can be called is replaced, and what is too long is cut.

    Names that a folder can have are left as they are.
    """
    plain = "".join(char if char.isprintable() and char not in "/\\" else "-" for char in name)
    plain = plain.encode("utf-8", errors="replace").decode("utf-8")
    if len(plain.encode()) > _MAX_FOLDER_BYTES:
        digest = hashlib.blake2b(name.encode("utf-8", errors="surrogatepass"), digest_size=6).hexdigest()
        plain = f"{plain.encode()[:_KEPT_BYTES].decode('utf-8', errors='ignore')}-{digest}"
    return plain if plain.strip(".") else f"run-{plain}"
