"""What can be wrong with an experiment, as branches of the tree in ``kourou.errors``.

::

    KourouError
     └ ExperimentError
        ├ DescriptionError (ValueError)  runs, parameters or a sweep file that have no meaning
        ├ AffinityError (ValueError)     a division of CPUs and GPUs that does not come out even
        ├ VariantKeyError (KeyError)     a variant sets what its configuration does not have
        ├ VariantTypeError (TypeError)   a variant puts a value where a section is, or the reverse
        ├ ResultsError (ValueError)      measurements that cannot be read, or compared
        └ SweepError (RuntimeError)      a sweep's folder or journal cannot be used, or a batch system refuses
           └ SweepBusy                      another process runs this sweep
"""

from __future__ import annotations

from kourou import errors

__all__ = [
    "AffinityError",
    "DescriptionError",
    "ExperimentError",
    "ResultsError",
    "SweepBusy",
    "SweepError",
    "VariantKeyError",
    "VariantTypeError",
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


class ResultsError(ExperimentError, ValueError):
    """Measurements cannot be read, or cannot be compared."""


class SweepError(ExperimentError, RuntimeError):
    """A sweep's folder or journal cannot be used, or the batch system refuses what it was asked."""


class SweepBusy(SweepError):
    """Another process runs this sweep; the message says which."""
