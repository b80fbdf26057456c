"""The thread that has memory ready before writers need it."""

from __future__ import annotations

import threading

from kourou.replay.blocks import BlockStore

__all__ = ["Provisioner"]

_AHEAD_BYTES = 32 << 20  # of a store, ready and not in use: what a writer fills in the time that it takes to get more
_PIECE_BYTES = 8 << 20


class Provisioner:
    """Fresh memory takes the system longer to provide than a writer to fill, so it is asked for ahead of time."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._wanted: dict[BlockStore, int] = {}
        self._ready: dict[BlockStore, int] = {}
        self._stopped = False
        self._thread: threading.Thread | None = None

    def used(self, store: BlockStore) -> None:
        """The store's blocks up to ``store.top`` are in use, or soon will be."""
        ahead = max(1, min(_AHEAD_BYTES, 2 * store.top * store.block_bytes) // store.block_bytes)
        with self._news:
            self._wanted[store] = max(self._wanted.get(store, 0), store.top + ahead)
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._run, name="kourou-replay-memory", daemon=True)
                self._thread.start()
            self._news.notify()

    def stop(self) -> None:
        """End the thread."""
        with self._news:
            self._stopped = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._news:
                store = None
                while store is None:
                    if self._stopped:
                        return
                    store = next((one for one, end in self._wanted.items() if self._ready.get(one, 0) < end), None)
                    if store is None:
                        self._news.wait()
                end = min(self._wanted[store], store.capacity)
            start = max(self._ready.get(store, 0), store.top)
            piece = min(end, start + max(1, _PIECE_BYTES // store.block_bytes))
            store.reserve(start, piece)
            with self._news:
                self._ready[store] = piece if piece < end else max(piece, self._wanted[store])
