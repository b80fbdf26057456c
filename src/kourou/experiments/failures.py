"""What can be wrong with an experiment, as branches of the tree in ``kourou.errors``.

::

    KourouError
     └ ExperimentError
        ├ DescriptionError (ValueError)  runs, parameters or a sweep file that have no meaning
        ├ AffinityError (ValueError)     a division of CPUs and GPUs that does not come out even
        ├ VariantKeyError (KeyError)     a variant sets what its configuration does not have
        ├ VariantTypeError (TypeError)   a variant puts a value where a section is, or the reverse
        ├ FitsFailed (RuntimeError)      some fits of a manager, or trials, failed; the others are saved
        └ SweepError (RuntimeError)      a sweep's folder or journal cannot be used, or a batch system refuses
           └ SweepBusy                      another process runs this sweep

    KeyboardInterrupt
     └ kourou.errors.Interrupted
        └ SweepInterrupted               after Ctrl-C, once all runs have ended
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from kourou import errors
from kourou.errors import ResultsError

__all__ = [
    "AffinityError",
    "DescriptionError",
    "ExperimentError",
    "FitFailure",
    "FitsFailed",
    "ResultsError",
    "SweepBusy",
    "SweepError",
    "SweepInterrupted",
    "VariantKeyError",
    "VariantTypeError",
    "asking_slurm",
    "check_word",
]


class ExperimentError(errors.KourouError):
    """Something about an experiment has no meaning; nothing was started."""


class DescriptionError(ExperimentError, ValueError):
    """Runs, parameters or a sweep file that have no meaning."""


class AffinityError(ExperimentError, ValueError):
    """CPUs and GPUs cannot be divided as asked; the message has the numbers."""


class VariantKeyError(ExperimentError, KeyError):
    """A variant sets a key that its configuration does not have."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the message's repr


class VariantTypeError(ExperimentError, TypeError):
    """A variant puts a plain value where the configuration has a section, or the reverse."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitFailure:
    """One fit, or one trial, that failed."""

    name: str
    """Of what: ``ppo, fit 2``."""
    cause: str
    """How its process ended, in words."""
    traceback: str = ""
    """What it raised; empty where it could not say."""
    folder: str = ""
    """Where its logs are."""


class FitsFailed(ExperimentError, RuntimeError):
    """Some fits or trials failed; all others are saved. ``fit`` again runs those that failed, and only those.

    Attributes:
        failures: each of them, with its traceback.
    """

    def __init__(self, failures: tuple[FitFailure, ...], total: int) -> None:
        told = [f"{one.name}: {one.cause}; logs: {one.folder}\n{one.traceback}".rstrip() for one in failures]
        super().__init__("\n\n".join([f"{len(failures)} of {total} failed, the others are saved", *told]))
        self.failures = failures
        self.total = total

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.failures, self.total)


class SweepError(ExperimentError, RuntimeError):
    """A sweep's folder or journal cannot be used, or the batch system refuses what it was asked."""


def check_word(what: str, word: object, known: Iterable[str], error: type[errors.KourouError]) -> None:
    """Refuse a word that is none of those known, with ``error``; ``what`` begins its message, as ``rerun is``."""
    words = tuple(known)
    if word not in words:
        raise error(f"{what} one of {', '.join(words)}, got {word!r}")


@contextlib.contextmanager
def asking_slurm() -> Iterator[None]:
    """While entered, what Slurm refuses is a sweep's error.

    Raises:
        SweepError: with Slurm's words.
    """
    try:
        yield
    except errors.LaunchError as error:
        raise SweepError(str(error)) from None


class SweepBusy(SweepError):
    """Another process runs this sweep; the message says which."""


class SweepInterrupted(errors.Interrupted):
    """A sweep was interrupted, and its runs have ended; the same call goes on where it was.

    Attributes:
        outcome: the ``SweepOutcome``.
    """

    def __init__(self, message: str, code: int, outcome: Any) -> None:
        super().__init__(message, code)
        self.outcome = outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.outcome)
