"""The subscriber: what an actor, an evaluator or an inference server holds."""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from numbers import Integral, Real
from typing import Any

from kourou.errors import CallCancelled, VersionNotFound, WeightsError, WeightsOutdated
from kourou.shared_files import SharedFile
from kourou.shown import shown
from kourou.waits import Blocked, waits_in
from kourou.weights.attaching import Way
from kourou.weights.readers import Who
from kourou.weights.reading import Found, Reader
from kourou.weights.transport import Transport
from kourou.weights.view import Mark, View

_log = logging.getLogger("kourou.weights")

_LOOKS_EVERY_S = 0.5  # whether the server is still the one that publishers write to
_MOST_S = 1e9  # of a bound, which readers share as whole nanoseconds
_SLICE_S = 0.1  # of a wait, after which it looks


def _described(here: Mapping[str, Any], what: str) -> Blocked:
    """What a method of a subscriber waits for, for those who ask."""
    way, reader = here["self"]._way, here["reader"]  # noqa: SLF001 - the class below
    what = f"{what} of the weights {way.name!r}"
    by = f", which {reader.page.publisher} did last" if reader.page.publisher else ""
    return Blocked(on=way.server, what=what, since=here["since"], ends=f"somebody publishes it{by}")


class Subscriber:
    """Reads versions of one name; never an older one after a newer one. Any number of threads may use it.

    Made by ``weights.subscriber()``; it connects when it is first used, may be there before anything was published,
    and outlives restarts of the publisher and of the weights' node.

    Args:
        way: to the weights.
        max_lag: newer versions that there may be, at most, those included that were skipped; None for any number.
        max_age_s: seconds since the version was published, at most; None for any time.
        transport: brings weights that were published with one.

    Raises:
        WeightsError: a bound is no number, or a negative one.
    """

    def __init__(
        self,
        way: Way,
        *,
        max_lag: int | None = None,
        max_age_s: float | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._way = way
        self._transport = transport
        self._max_lag, self._max_age_s = _bounds(max_lag, max_age_s)
        self._who = Who(way.caller or "", self._max_lag, self._max_age_s)
        self._reader: Reader | None = None
        self._answer: Future[SharedFile] | None = None  # where the board of a new server is
        self._look_at = -math.inf
        self._last: Mark | None = None  # the version that was taken last
        self._taken: weakref.ref[View] | None = None
        self._warned = 0
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<subscriber of the weights {self._way.name!r} of {self._way.server}, at version {self.version}>"

    @property
    def version(self) -> int | None:
        """The version that was taken last; None before the first."""
        return None if self._last is None else self._last.version

    @waits_in(lambda here: _described(here, "a newer version"))
    def latest(self, *, newer_than: int | None = None, timeout_s: float | None = 0.0) -> View | None:
        """The latest version, if it is newer than one; looking for it costs about a microsecond.

        Args:
            newer_than: a version; None takes any.
            timeout_s: seconds to wait for one; 0 does not wait, None waits for ever.

        Returns:
            None when there is none in time.

        Raises:
            WeightsOutdated: it is older than this subscriber may have it (``max_lag``, ``max_age_s``).
            CallCancelled: it would have to wait, and the program stops.
            NodeExited: the weights' node has ended for good.
        """
        deadline = None
        while True:
            reader, before = self._reader or self._attached(), self._last
            number = reader.latest()
            view = self._take(reader) if number and not self._is_known(reader, number, newer_than) else None
            is_new = view is not None and view.mark != before
            if not is_new and self._attached() is not reader:  # who finds something new need look for no other server
                continue
            if view is not None and (newer_than is None or view.version > newer_than):
                self._check(view.mark)
                return view
            if timeout_s == 0:
                if self._last is not None:
                    self._check(self._last)
                return None
            if deadline is None:
                since = time.monotonic()
                deadline = math.inf if timeout_s is None else since + timeout_s
            if (left_s := deadline - time.monotonic()) <= 0:
                return None
            self._wait(reader, number, left_s)

    @waits_in(lambda here: _described(here, "a version that is not too old"))
    def require(
        self, *, max_lag: int | None = None, max_age_s: float | None = None, timeout_s: float | None = 0.0
    ) -> View:
        """The latest version, if it is not too old: a bound never brings an older one than none would.

        While there is no newer one it is the view taken last, if that is still alive.

        Args:
            max_lag: newer versions that there may be; None for what the subscriber was made with.
            max_age_s: seconds since it was published, likewise. Without any bound it is the latest that there is.
            timeout_s: seconds to wait for one; 0 does not wait, None waits for ever.

        Raises:
            WeightsOutdated: there is none in time; says whose weights are old, and since when.
            WeightsError: a bound is no number, or a negative one.
            CallCancelled: it would have to wait, and the program stops.
            NodeExited: the weights' node has ended for good.
        """
        if max_lag is not None or max_age_s is not None:
            max_lag, max_age_s = _bounds(max_lag, max_age_s)
        max_lag = self._max_lag if max_lag is None else max_lag
        max_age_s = self._max_age_s if max_age_s is None else max_age_s
        since = time.monotonic()
        deadline = math.inf if timeout_s is None else since + timeout_s
        while True:
            reader = self._attached()
            number = reader.latest()
            view = self._take(reader) if number else None
            if view is None and self._taken is not None:  # what a new server has is older, if it has any
                view = self._taken()
            why = self._nothing() if view is None else self._why_old(view.mark, max_lag, max_age_s)
            if view is not None and why is None:
                return view
            del view  # while it waits, it must not hold it
            if (left_s := deadline - time.monotonic()) <= 0:
                raise WeightsOutdated(why)
            self._wait(reader, number, left_s)

    @waits_in(lambda here: _described(here, f"version {here['version']}"))
    def exact(self, version: int, *, timeout_s: float | None = 0.0) -> View:
        """One very version, for evaluators; waits for it if it is still to come.

        Args:
            version: which.
            timeout_s: seconds to wait for it; 0 does not wait, None waits for ever.

        Raises:
            VersionNotFound: it is not there any more, was skipped, or did not come in time.
            CallCancelled: it would have to wait, and the program stops.
            NodeExited: the weights' node has ended for good.
        """
        since = time.monotonic()
        deadline = math.inf if timeout_s is None else since + timeout_s
        while True:
            reader = self._attached()
            number = reader.latest()
            last = reader.page.offered_version if reader.page.offered else None
            found = self._found(reader, version)
            if found is not None:
                reader.took(found, self._who)
                return View(found, _mark(reader, found), skipped=0, offered=self._offered, transport=self._transport)
            left_s = deadline - time.monotonic()
            if (last is not None and last >= version) or left_s <= 0:
                raise VersionNotFound(
                    f"{self._what()} have no version {version}: the last is {last}, by "
                    f"{reader.page.publisher or 'nobody'}; more are kept with lp.WeightsNode(keep=…)"
                )
            self._wait(reader, number, left_s)

    # -- how it is done ---------------------------------------------------------------------------------------------

    def _attached(self) -> Reader:
        """The reader of the board that publishers write to, as far as is known."""
        reader = self._reader
        if reader is not None and time.monotonic() < self._look_at:
            return reader
        with self._lock:
            if self._reader is None:
                self._reader = self._way.reader()
            elif not self._reader.is_there():
                self._attach_again(self._reader)
            self._look_at = time.monotonic() + _LOOKS_EVERY_S
            return self._reader

    def _attach_again(self, old: Reader) -> None:
        """Go over to the server that has taken the old one's place, once it has answered; nobody waits for that."""
        if self._answer is None:
            self._answer = self._way.ask()
        if self._answer.done():
            answer, self._answer = self._answer, None
            reader = self._way.reader(answer)
            reader.earlier = old.earlier + old.page.offered
            self._reader = reader

    def _take(self, reader: Reader) -> View | None:
        """The latest version, unless it is older than one that was taken before."""
        with self._lock:
            held = self._taken() if self._taken is not None else None
            if held is not None and held.mark.ordinal == reader.earlier + reader.latest():
                return held
            found = self._found(reader, None)
            if found is None:
                return None
            last, mark = self._last, _mark(reader, found)
            if last is not None and found.version < last.version:
                self._warn(mark, last, reader)
                return None
            skipped = 0 if last is None else max(0, mark.ordinal - last.ordinal - 1)
            view = View(found, mark, skipped=skipped, offered=self._offered, transport=self._transport)
            self._last, self._taken = mark, weakref.ref(view)
            reader.took(found, self._who)
            return view

    def _found(self, reader: Reader, version: int | None) -> Found | None:
        try:
            return reader.newest() if version is None else reader.exact(version)
        except FileNotFoundError:  # the server has ended
            self._look_at = -math.inf
            return None

    def _wait(self, reader: Reader, number: int, left_s: float) -> None:
        if reader.page.closed:
            raise CallCancelled(f"nobody waits for {self._what()} any more: the program stops")
        reader.wait(number, min(left_s, _SLICE_S))

    def _is_known(self, reader: Reader, number: int, newer_than: int | None) -> bool:
        """Whether a publication is the one that was taken last, and not newer than somebody has it."""
        last = self._last
        if last is None or newer_than is None or last.version > newer_than:
            return False
        return last.ordinal == reader.earlier + number

    def _offered(self) -> int:
        reader = self._attached()
        return reader.earlier + reader.page.offered

    def _check(self, mark: Mark) -> None:
        why = self._why_old(mark, self._max_lag, self._max_age_s)
        if why is not None:
            raise WeightsOutdated(why)

    def _why_old(self, mark: Mark, max_lag: int | None, max_age_s: float | None) -> str | None:
        if max_age_s is None and max_lag is None:
            return None
        age_s, lag = mark.age_s, self._offered() - mark.ordinal
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - age_s))
        by = self._attached().page.publisher
        if max_age_s is not None and age_s > max_age_s:
            return (
                f"{self._what()} are old: version {mark.version} was published {age_s:.1f} s ago, at {since}, and "
                f"max_age_s={max_age_s:g}; their publisher, {by}, has published nothing since, or has ended"
            )
        if max_lag is not None and lag > max_lag:
            return (
                f"{self._what()} are old: version {mark.version}, of {since}, is {lag} versions behind, and "
                f"max_lag={max_lag}; what {by} published since was skipped, as readers held all older versions"
            )
        return None

    def _nothing(self) -> str:
        if self._last is not None:
            return f"{self._what()} have nothing as new as version {self._last.version}, which was taken before"
        return f"{self._what()} were never published"

    def _warn(self, mark: Mark, last: Mark, reader: Reader) -> None:
        if self._warned != mark.ordinal:
            self._warned = mark.ordinal
            _log.warning(
                "%s now have version %s, by %s; it is not taken, as version %s was before",
                self._what(),
                mark.version,
                reader.page.publisher,
                last.version,
            )

    def _what(self) -> str:
        return f"the weights {self._way.name!r} of {self._way.server}"


def _mark(reader: Reader, found: Found) -> Mark:
    return Mark(found.version, reader.earlier + found.number, found.published_ns)


def _bounds(max_lag: int | None, max_age_s: float | None) -> tuple[int | None, float | None]:
    """How old weights may be, as the numbers that readers share.

    Raises:
        WeightsError: they are none.
    """
    if max_lag is not None and (not isinstance(max_lag, Integral) or not 0 <= max_lag < 1 << 63):
        raise WeightsError(f"max_lag is a whole number of versions, >= 0, or None for any; not {shown(max_lag)}")
    if max_age_s is not None and (not isinstance(max_age_s, Real) or not 0 <= max_age_s < _MOST_S):
        raise WeightsError(f"max_age_s is a number of seconds, >= 0, or None for any age; not {shown(max_age_s)}")
    return max_lag, max_age_s
