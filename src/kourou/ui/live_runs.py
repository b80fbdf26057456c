"""Live runs that somebody looks at: sampled while they do, for all at once, and so rarely that it costs little."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from kourou import errors
from kourou.runtime.diagnosis.doctor import examine
from kourou.runtime.files.event_follower import EventFollower
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.sampling import NodeSample, RunSample, Sampler
from kourou.ui.history import Lives
from kourou.ui.run_page import Plan, run_page

_INTERVAL_S = 1.0
_SHARE = 0.02
"""Of a core that looking at a run may take: the more nodes it has, the rarer it is looked at."""
_LONGEST_INTERVAL_S = 30.0
_IDLE_S = 15.0
_TICK_S = 5.0


def encoded(data: Any) -> bytes:
    """JSON, with null for numbers that are not finite."""
    try:
        text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(data), ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


class _Watched:
    """One run. :meth:`look` is called by one thread at a time."""

    def __init__(self, found: FoundRun) -> None:
        self.found = found
        self.sampler = Sampler(found)
        self.plan = Plan(found.plan())
        self.before: RunSample | None = None
        self.page = b""
        self.number = 0
        self.over = False
        self.asked_at = self.looked_at = time.monotonic()
        self.interval_s = 0.0
        self.busy = asyncio.Lock()
        self._events = EventFollower(found.path)
        self._lives = Lives()
        self._reading = threading.Lock()

    @property
    def due_s(self) -> float:
        """Seconds until it is to be looked at again."""
        return math.inf if self.over else max(0.0, self.looked_at + self.interval_s - time.monotonic())

    def lives_page(self) -> dict[str, Any]:
        """Its nodes' lives; of any thread."""
        with self._reading:
            self._lives.add(self._events.read())
            return self._lives.page()

    def look(self) -> None:
        """Make the page anew. The first one comes without figures, which nodes may be slow to tell, and so at once."""
        spent_s = time.process_time()
        if self.page:
            sample = self.sampler.sample()
        else:
            status = self.sampler.status()
            nodes = {node.name: NodeSample() for node in status.nodes}
            sample = RunSample(status=status, taken_at=time.time(), nodes=nodes, launcher=NodeSample())
        if {node.name for node in sample.status.nodes} != self.plan.nodes.keys():  # some were added, or removed
            self.plan = Plan(self.found.plan())
        page = run_page(sample, self.plan, self.before)
        if not sample.status.state.live:
            diagnosis = examine(self.found)
            page.update(findings=[finding.to_dict() for finding in diagnosis.findings], summary=diagnosis.summary)
            self.over = bool(self.page) and sample.status.state.over
        self.page, self.number = encoded(page), self.number + 1
        took_s = time.process_time() - spent_s
        if self.before is not None:  # the first looks connect, and wait for another one to tell rates by
            self.interval_s = min(max(_INTERVAL_S, took_s / _SHARE), _LONGEST_INTERVAL_S)
        elif self.number > 1:
            self.interval_s = _INTERVAL_S
        self.before = sample if self.number > 1 else None
        self.looked_at = time.monotonic()


class LiveRuns:
    """The runs that are looked at. To be used by one event loop; :meth:`run` is entered while it serves."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._looks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """While entered, runs that nobody looks at any more are let go of; at the end, all."""
        task = asyncio.create_task(self._let_go())
        try:
            yield
        finally:
            task.cancel()
            for watched in self._watched.values():
                watched.sampler.close()
            self._watched.clear()

    async def page(self, found: FoundRun) -> bytes:
        """The page of a run: the latest one, while the next one is made."""
        watched = await self._of(found)
        if not watched.page:
            await self._look(watched)
        elif not watched.due_s and not watched.busy.locked():
            look = asyncio.create_task(self._look(watched))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)
        return watched.page

    async def lives(self, found: FoundRun) -> Callable[[], dict[str, Any]]:
        """What makes the page of its nodes' lives: it reads what has happened since it was last made."""
        return (await self._of(found)).lives_page

    async def pages(self, found: FoundRun) -> AsyncIterator[bytes]:
        """The page of a run whenever there is a new one, until the run has ended; or why there is none."""
        number = 0
        while True:
            watched = await self._of(found)
            try:
                if not watched.due_s:
                    await self._look(watched)
            except (errors.KourouError, OSError) as error:  # its folder has just been deleted, say
                yield encoded({"trouble": str(error)})
                await asyncio.sleep(_INTERVAL_S)
            if watched.number != number:
                number = watched.number
                yield watched.page
            if watched.over:
                return
            await asyncio.sleep(min(watched.due_s, _INTERVAL_S) or 0.05)

    async def _of(self, found: FoundRun) -> _Watched:
        watched = self._watched.get(found.run_id)
        if watched is None:
            made = await run_in_threadpool(_Watched, found)
            watched = self._watched.setdefault(found.run_id, made)
            if watched is not made:
                made.sampler.close()
        watched.asked_at = time.monotonic()
        return watched

    async def _look(self, watched: _Watched) -> None:
        async with watched.busy:
            if not watched.due_s:  # another one may have looked meanwhile
                await run_in_threadpool(watched.look)

    async def _let_go(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            for run_id, watched in list(self._watched.items()):
                if time.monotonic() - watched.asked_at > _IDLE_S and not watched.busy.locked():
                    del self._watched[run_id]
                    await run_in_threadpool(watched.sampler.close)
