"""The view: one version, as a reader has it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from kourou.errors import WeightsError
from kourou.weights.loading import load_into, only_copies
from kourou.weights.reading import Found
from kourou.weights.slot_layout import unpack
from kourou.weights.transport import Carried, Transport

_UNREAD: Any = object()


class Mark(NamedTuple):
    """Which version, and since when.

    Attributes:
        version: as the publisher calls it.
        ordinal: which publication it is, of all that there were.
        published_ns: when, by this host's monotonic clock.
    """

    version: int
    ordinal: int
    published_ns: int

    @property
    def age_s(self) -> float:
        """Seconds since it was published."""
        return (time.monotonic_ns() - self.published_ns) / 1e9


class View:
    """One version of the weights, complete and unchanging.

    On the publisher's host its arrays are the shared memory itself: nothing was copied. As long as the view, or any of
    its arrays, is alive, that memory is not used for another version; so let go of views that were loaded. What you
    change in the arrays is yours alone, and nobody else sees it.

    Attributes:
        version: as the publisher calls it.
        skipped: versions that were published since this subscriber's view before, and that it did not get.
        mark: which publication it is.
    """

    def __init__(
        self, found: Found, mark: Mark, *, skipped: int, offered: Callable[[], int], transport: Transport | None
    ) -> None:
        self.version = mark.version
        self.skipped = skipped
        self.mark = mark
        self._found = found
        self._offered = offered
        self._transport = transport
        self._weights = _UNREAD

    def __repr__(self) -> str:
        return f"<version {self.version} of weights, {self.age_s:.1f} s old>"

    @property
    def age_s(self) -> float:
        """Seconds since it was published."""
        return self.mark.age_s

    @property
    def lag(self) -> int:
        """How many newer versions there are, those included that were skipped.

        Between hosts it is what the subscriber was last told.
        """
        return max(0, self._offered() - self.mark.ordinal)

    @property
    def weights(self) -> Any:
        """What was published, in its own structure.

        Raises:
            SerializationError: it cannot be rebuilt here, for example because a module is missing.
            WeightsError: it was published with a transport, and this subscriber has none.
        """
        published = self._published()
        if isinstance(published, Carried):
            self._weights = self._received(published.offer, None)
        return self._weights

    def _published(self) -> Any:
        if self._weights is _UNREAD:
            self._weights = self._found.contents.restored()
        return self._weights

    def _received(self, offer: Any, target: Any) -> Any:
        if self._transport is None:
            raise WeightsError("these weights were published with a transport, which this subscriber has to have, too")
        return self._transport.receive(offer, target)

    def load_into(self, target: Any) -> None:
        """Copy the weights into a model, or into arrays of the same structure, in place.

        Args:
            target: anything with ``load_state_dict`` (torch's modules and optimizers), or nested dicts, lists and
                tuples of arrays and tensors.

        Raises:
            WeightsError: the target's structure is not that of the weights; says where.
        """
        published = self._to_copy() if self._weights is _UNREAD and only_copies(target) else self._published()
        if isinstance(published, Carried):
            self._received(published.offer, target)
        else:
            load_into(target, published)

    def _to_copy(self) -> Any:
        """What was published, for those who copy it now and keep nothing of it."""
        found = self._found
        if found.at_hand is not None:
            with contextlib.suppress(FileNotFoundError):  # the server has ended
                return unpack(found.at_hand(), len(found.contents.buffers)).restored()
        return self._published()
