"""A shell's way to the coordinator of a run on another host: it calls the launcher as agents do."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.runtime.files.run_folder import ORDER_FILE
from kourou.runtime.files.scratch import ScratchFolder
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.host_agent.dialling import SHELL, TUNNEL, Caller, Ended
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.host_agent.session import Session
from kourou.runtime.host_agent.tunnel import Tunnel

_PATIENCE_S = 10.0


class CoordinatorTunnel:
    """Made, it is open. Its owner closes it.

    Where the way to the launcher breaks, so do the connections; new ones go over the next one, until there is none.

    Raises:
        ServerUnavailable: the launcher cannot be reached, or is no more.
        NotOwned: others could have written what says where it is.
    """

    def __init__(self, folder: Path) -> None:
        try:
            order = DialOrder.read(folder / ORDER_FILE)
        except errors.NotOwned:
            raise
        except (OSError, ValueError) as error:  # there is none, or half of one
            raise errors.RunUnavailable(f"run {folder.name} has not begun, or has ended: {error}") from error
        self._scratch = ScratchFolder()
        self._thread = LoopThread("kourou-passage")
        entrance = self._scratch.path / "coordinator"
        self.address = f"unix:{entrance}"
        """Of the coordinator, here."""
        try:
            self._caller = caller = asyncio.run_coroutine_threadsafe(self._call(order), self._thread.loop).result()
        except BaseException as error:  # Ctrl-C, too
            asyncio.run_coroutine_threadsafe(_give_up(), self._thread.loop).result()
            self._thread.close()
            self._scratch.remove()
            if isinstance(error, Ended):
                raise errors.ServerUnavailable(f"run {folder.name} cannot be reached: {error}") from None
            raise
        self._tunnel = Tunnel(self._thread, lambda *piece: caller.send_first(TUNNEL, *piece), entrance=entrance)
        self._keeping = self._thread.call(lambda: asyncio.ensure_future(self._keep()))  # and it listens

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
        return caller

    async def _keep(self) -> None:
        try:
            while True:
                await self._caller.hold()
                self._tunnel.hang_up()
                self._caller.session = Session()  # the launcher has forgotten the other one
                await self._caller.connect(_PATIENCE_S)
        except Ended:
            pass  # who calls finds nobody
        finally:
            self._tunnel.close()

    def _pass_on(self, kind: str, *piece: Any) -> None:
        del kind
        self._tunnel.receive(*piece)

    async def _end(self) -> None:
        self._keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeping
        await self._caller.close()


async def _give_up() -> None:
    """End what this loop still does."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
