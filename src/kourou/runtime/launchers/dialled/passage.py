"""A shell's way to the coordinator of a run on another host: it calls the launcher as agents do."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.runtime.files.run_folder import ORDER_FILE
from kourou.runtime.files.scratch import ScratchFolder
from kourou.runtime.host_agent.dialling import SHELL, TUNNEL, Caller, DialOrder, Ended
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.host_agent.tunnel import Tunnel

__all__ = ["Passage"]

_PATIENCE_S = 10.0


class Passage:
    """Made, it is open. Its owner closes it.

    Args:
        folder: the run's, which both hosts see.

    Raises:
        ServerUnavailable: the launcher cannot be reached, or is no more.
        NotOwned: others could have written what says where it is.
    """

    def __init__(self, folder: Path) -> None:
        try:
            order = DialOrder.read(folder / ORDER_FILE)
        except errors.NotOwned:
            raise
        except OSError as error:
            raise errors.ServerUnavailable(f"run {folder.name} has not begun, or has ended: {error}") from error
        self._scratch = ScratchFolder()
        self._thread = LoopThread("kourou-passage")
        self._keeping: asyncio.Future[None] | None = None
        entrance = self._scratch.path / "coordinator"
        self.address = f"unix:{entrance}"
        """Of the coordinator, here."""
        try:
            self._caller = asyncio.run_coroutine_threadsafe(self._call(order), self._thread.loop).result()
        except Ended as error:
            self._thread.close()
            self._scratch.remove()
            raise errors.ServerUnavailable(f"run {folder.name} cannot be reached: {error}") from None
        caller = self._caller
        self._tunnel = Tunnel(self._thread, lambda *piece: caller.send_first(TUNNEL, *piece), entrance=entrance)
        self._thread.call(lambda: None)  # it listens

    def close(self) -> None:
        """Give everything back."""
        self._tunnel.close()
        asyncio.run_coroutine_threadsafe(self._end(), self._thread.loop).result()
        self._thread.close()
        self._scratch.remove()

    async def _call(self, order: DialOrder) -> Caller:
        caller = Caller(order, {"role": SHELL})
        caller.on_message = self._pass_on
        await caller.connect(_PATIENCE_S)
        self._keeping = asyncio.ensure_future(caller.keep())
        return caller

    def _pass_on(self, kind: str, *piece: Any) -> None:
        del kind
        self._tunnel.receive(*piece)

    async def _end(self) -> None:
        assert self._keeping is not None  # noqa: S101 - it was opened
        self._keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError, Ended):
            await self._keeping
        await self._caller.close()
