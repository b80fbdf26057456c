"""Arguments of other projects that are accepted, so that programs written for those run, and that change nothing."""

from __future__ import annotations

import warnings

__all__ = ["warn_ignored"]


def warn_ignored(**given: bool) -> None:
    """Warn the caller's caller of arguments that do nothing here: name → whether it was given."""
    for name, is_given in given.items():
        if is_given:
            warnings.warn(f"the argument {name} is accepted for other projects' programs, and ignored", stacklevel=3)
