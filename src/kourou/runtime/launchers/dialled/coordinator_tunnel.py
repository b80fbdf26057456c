"""A shell's way to the coordinator of a run on another host: it calls the launcher as agents do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from kourou import errors
from kourou.runtime.files.run_folder import ORDER_FILE
from kourou.runtime.files.scratch import ScratchFolder
from kourou.runtime.host_agent.dial_order import DialOrder
from kourou.runtime.host_agent.dialling import SHELL, TUNNEL, Caller, Ended
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.host_agent.session import Session
from kourou.runtime.host_agent.tunnel import Tunnel

_PATIENCE_S = 10.0
T = TypeVar("T")


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
        with contextlib.ExitStack() as undo:
            self._scratch = ScratchFolder()
            undo.callback(self._scratch.remove)
            self._thread = LoopThread("kourou-passage")
            undo.callback(self._thread.close)
            entrance = self._scratch.path / "coordinator"
            self.address = f"unix:{entrance}"
            """Of the coordinator, here."""
            undo.callback(lambda: self._run(_give_up()))
            try:
                self._caller = caller = self._run(self._call(order))
            except Ended as error:
                raise errors.ServerUnavailable(f"run {folder.name} cannot be reached: {error}") from None
            undo.callback(lambda: self._run(caller.close()))
            self._tunnel = Tunnel(self._thread, lambda *piece: caller.send_first(TUNNEL, *piece), entrance=entrance)
            self._keeping = self._thread.call(lambda: asyncio.ensure_future(self._keep()))  # and it listens
            undo.pop_all()

    def close(self) -> None:
        """Give everything back."""
        self._tunnel.close()
        self._run(self._end())
        self._thread.close()
        self._scratch.remove()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._thread.loop).result()

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
