"""Checkpoints on disk: complete or not there, whatever happens while one is written.

::

    root/
      checkpoint-00000007/
        state.bin        tables, patterns, and where the contents of blocks are
        manifest.json    sizes and checksums of that file and of the data files; written last
      data-00000005.bin  contents of blocks that checkpoint 5 was the first to have
      data-00000007.bin

A block never changes once its writer is done with it, so a checkpoint writes only those blocks that none of the data
files has; a file that is mostly out of use is left behind and its rest written anew. Everything is written aside,
synced and renamed, in that order. What is deleted are files and folders of these names only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import os
import pickle
import re
import shutil
import threading
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cloudpickle

from kourou.checkpoint_files import ASIDE, number_of, numbered, sync_folder, write_synced
from kourou.closing import ClosedAtExit
from kourou.errors import CheckpointError
from kourou.ownership import make_own_folder, read_own
from kourou.replay import rate_limiters, selectors
from kourou.replay.arrays.array_types import Array, Integers, np
from kourou.replay.arrays.signature import Signature, TensorSpec
from kourou.replay.arrays.tree import TreeDef
from kourou.replay.server.data import DataStore
from kourou.replay.server.snapshot import ConfigFrom, Snapshot, StoreSnapshot, TableSnapshot
from kourou.replay.storage.layout import ColumnSpec, Leaf, Pattern
from kourou.shown import described

_log = logging.getLogger("kourou.replay")
_FORMAT = 1
_DATA = re.compile(r"data-(\d{8})\.bin")
_PIECE_BYTES = 8 << 20
_LEAST_USED = 0.5  # of a data file; below, its rest is written anew


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Section:
    """The blocks of one store in a data file: for each column [count, length, …], one after the other."""

    count: int
    offsets: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Located:
    """Where the blocks of a store are: by block, the number of a data file and the index in its section."""

    files: Integers
    indices: Integers


@dataclasses.dataclass(frozen=True, kw_only=True)
class _State:
    """What state.bin holds."""

    snapshot: Snapshot
    located: tuple[_Located, ...]
    sections: dict[int, dict[int, _Section]]  # by data file, by store


class Checkpointer:
    """Writes and reads the checkpoints of one server.

    Args:
        path: a folder; made if it is not there. Other files in it are left alone.
        keep_latest: checkpoints to keep; at least 1.
        config: where selectors, sizes and limiters come from when one is read: from the tables as the ``code`` made
            them, or from the ``file``.
        fallback_path: a folder to read from while ``path`` has no checkpoint.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep_latest: int = 1,
        config: ConfigFrom = "code",
        fallback_path: str | os.PathLike[str] | None = None,
    ) -> None:
        if keep_latest < 1 or config not in {"code", "file"}:
            raise ValueError(f"keep_latest={keep_latest} is at least 1, and config={config!r} is 'code' or 'file'")
        self.path = Path(path).absolute()
        self.config: ConfigFrom = config
        self.loaded: Path | None = None
        """The checkpoint that :meth:`load` has read; None for none."""
        self._keep_latest = keep_latest
        self._fallback = None if fallback_path is None else Path(fallback_path).absolute()
        self._lock = threading.Lock()
        self._known: dict[tuple[int, int, int], tuple[int, int]] = {}  # (store, block, version): (file, index)
        self._sections: dict[int, dict[int, _Section]] = {}
        self._sums: dict[int, tuple[int, int]] = {}  # by data file: size, checksum

    def below(self, name: str) -> Checkpointer:
        """One like it, in a folder below this one's: for a server among several."""
        fallback = None if self._fallback is None else self._fallback / name
        return Checkpointer(self.path / name, keep_latest=self._keep_latest, config=self.config, fallback_path=fallback)

    # -- writing --------------------------------------------------------------------------------------------------

    def save(self, cut: AbstractContextManager[Snapshot], data: DataStore) -> Path:
        """Write a checkpoint; its folder.

        Args:
            cut: made when it is its turn, so that of two checkpoints, the later one never has what was there before.
            data: of the server.

        Raises:
            CheckpointError: the disk is full, the folder cannot be written to, …. Older checkpoints are untouched.
        """
        with self._lock, cut as snapshot:
            try:
                return self._save(snapshot, data)
            except OSError as error:
                raise CheckpointError(f"no checkpoint could be written to {self.path}: {error}") from error

    def _save(self, snapshot: Snapshot, data: DataStore) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        number = 1 + max(map(_number, self.path.iterdir()), default=0)
        located, used = self._write_data(number, snapshot, data)
        sections = {file: self._sections[file] for file in used}
        state = cloudpickle.dumps(_State(snapshot=snapshot, located=tuple(located), sections=sections))
        aside = self.path / f"{ASIDE}{number:08}"
        shutil.rmtree(aside, ignore_errors=True)
        make_own_folder(aside)  # what is in it is unpickled one day
        write_synced(aside / "state.bin", state)
        manifest = {
            "format": _FORMAT,
            "state": [len(state), zlib.crc32(state)],
            "data": {f"data-{file:08}.bin": self._sums[file] for file in used},
        }
        write_synced(aside / "manifest.json", json.dumps(manifest, indent=1).encode())
        sync_folder(aside)
        final = self.path / f"checkpoint-{number:08}"
        aside.rename(final)
        sync_folder(self.path)
        self._prune()
        return final

    def _write_data(self, number: int, snapshot: Snapshot, data: DataStore) -> tuple[list[_Located], set[int]]:
        """Write what no file has; where everything is, and in which files."""
        names = [
            [
                (store.number, block, version)
                for block, version in zip(store.blocks.tolist(), store.versions.tolist(), strict=True)
            ]
            for store in snapshot.stores
        ]
        self._forget_sparse({name for of_store in names for name in of_store})
        located = []
        sections: dict[int, _Section] = {}
        written: dict[tuple[int, int, int], tuple[int, int]] = {}
        with _DataFile(self.path / f"data-{number:08}.bin") as file:
            for store, of_store in zip(snapshot.stores, names, strict=True):
                places = [self._known.get(name) for name in of_store]
                new = [index for index, place in enumerate(places) if place is None]
                if new:
                    sections[store.number] = file.add(store, store.blocks[new], data)
                for position, index in enumerate(new):
                    places[index] = number, position
                    if store.complete[index]:
                        written[of_store[index]] = number, position
                pairs = np.array(places, np.int64).reshape(-1, 2)
                located.append(_Located(files=pairs[:, 0], indices=pairs[:, 1]))
            if sections:
                self._sums[number] = file.finish()
                self._sections[number] = sections
                self._known.update(written)
        return located, {int(one) for part in located for one in np.unique(part.files)}

    def _forget_sparse(self, wanted: set[tuple[int, int, int]]) -> None:
        """Forget blocks that nobody needs, and files most of whose blocks nobody needs."""
        self._known = {name: place for name, place in self._known.items() if name in wanted}
        used: dict[int, int] = {}
        for file, _ in self._known.values():
            used[file] = used.get(file, 0) + 1
        totals = {file: sum(section.count for section in of.values()) for file, of in self._sections.items()}
        sparse = {file for file, total in totals.items() if used.get(file, 0) < _LEAST_USED * total}
        self._known = {name: place for name, place in self._known.items() if place[0] not in sparse}

    def _prune(self) -> None:
        """Delete what the latest checkpoints do not need, of what checkpointers made."""
        entries = list(self.path.iterdir())
        kept = numbered(self.path)
        needed: set[str] = set()
        for entry in kept[: self._keep_latest]:
            with contextlib.suppress(OSError, ValueError, KeyError):
                needed.update(json.loads((entry / "manifest.json").read_bytes())["data"])
        for entry in kept[self._keep_latest :]:
            shutil.rmtree(entry, ignore_errors=True)
        for entry in entries:
            if entry.name.startswith(ASIDE):
                shutil.rmtree(entry, ignore_errors=True)
            elif _DATA.fullmatch(entry.name) and entry.name not in needed:
                entry.unlink(missing_ok=True)
        self._sections = {file: of for file, of in self._sections.items() if f"data-{file:08}.bin" in needed}
        self._known = {name: place for name, place in self._known.items() if place[0] in self._sections}

    # -- reading --------------------------------------------------------------------------------------------------

    def load(self) -> tuple[Snapshot, list[list[Array]]] | None:
        """The latest checkpoint: what it says, and the contents of the blocks of each store. None when there is none.

        Raises:
            CheckpointError: there are checkpoints, but all are damaged, or somebody else could have written them.
        """
        for folder in (self.path, self._fallback):
            if folder is None:
                continue
            problems = []
            for entry in numbered(folder):
                try:
                    found = _load(folder, entry)
                except (OSError, ValueError, KeyError, CheckpointError) as error:
                    problems.append(f"{entry.name}: {error}")
                    _log.warning("a checkpoint cannot be read, and is passed over: %s: %s", entry, error)
                else:
                    self.loaded = entry
                    return found
            if problems:
                raise CheckpointError(f"no checkpoint in {folder} can be read: " + "; ".join(problems))
        return None


def _number(entry: Path) -> int:
    found = _DATA.fullmatch(entry.name)
    return int(found[1]) if found else number_of(entry)


class _DataFile(ClosedAtExit):
    """A data file while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(f"{ASIDE}{path.name}")
        self._file: Any = None
        self._size = self._sum = 0

    def close(self) -> None:
        """Let go of it; one that is not finished is no more."""
        if self._file is not None:
            self._file.close()
            self._aside.unlink(missing_ok=True)

    def add(self, store: StoreSnapshot, blocks: Integers, data: DataStore) -> _Section:
        """Write the contents of blocks."""
        if self._file is None:
            self._file = self._aside.open("wb")
        offsets = []
        for array in data.stores[store.number].arrays:
            offsets.append(self._size)
            whole = array[: len(array) // store.length * store.length]
            by_block = whole.reshape(-1, store.length, *array.shape[1:])
            step = max(1, _PIECE_BYTES // max(1, by_block[:1].nbytes))
            for start in range(0, len(blocks), step):
                piece = np.ascontiguousarray(by_block[blocks[start : start + step]])
                raw: Any = piece.reshape(-1).view(np.uint8) if piece.nbytes else b""
                self._file.write(raw)
                self._sum = zlib.crc32(raw, self._sum)
                self._size += piece.nbytes
        return _Section(count=len(blocks), offsets=tuple(offsets))

    def finish(self) -> tuple[int, int]:
        """Everything is written: size and checksum."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._aside.rename(self._path)
        return self._size, self._sum


_OURS: dict[str, Any] = {
    **{name: getattr(module, name) for module in (rate_limiters, selectors) for name in module.__all__},
    **{kind.__name__: kind for kind in (_Section, _Located, _State, Snapshot, TableSnapshot, StoreSnapshot)},
    **{kind.__name__: kind for kind in (ColumnSpec, Leaf, Pattern, Signature, TensorSpec)},
    "Structure": TreeDef,  # its earlier name
    "TreeDef": TreeDef,
}


class _StateUnpickler(pickle.Unpickler):
    """Finds replay's own classes by their names, since modules may have moved since the checkpoint was written."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("kourou.replay.") and name in _OURS:
            return _OURS[name]
        return super().find_class(module, name)


def _load(folder: Path, entry: Path) -> tuple[Snapshot, list[list[Array]]]:
    manifest = json.loads(read_own(entry / "manifest.json"))
    if manifest["format"] != _FORMAT:
        raise CheckpointError(f"its format is {manifest['format']}, and this kourou reads format {_FORMAT}")
    raw = _checked(entry / "state.bin", read_own(entry / "state.bin"), manifest["state"])
    try:
        state: _State = _StateUnpickler(io.BytesIO(raw)).load()
    except Exception as error:
        raise CheckpointError(f"its tables cannot be rebuilt here: {described(error)}") from error
    files = {}
    for name, sums in manifest["data"].items():
        found = _DATA.fullmatch(name)
        if found is None:
            raise CheckpointError(f"{name} is no data file of a checkpoint")
        files[int(found[1])] = _checked(folder / name, (folder / name).read_bytes(), sums)
    contents = []
    for store, located in zip(state.snapshot.stores, state.located, strict=True):
        contents.append([_column(store, located, state, files, column) for column in range(len(store.columns))])
    return state.snapshot, contents


def _column(store: StoreSnapshot, located: _Located, state: _State, files: dict[int, bytes], column: int) -> Array:
    """The contents of a store's blocks in one column, [m, length, …]."""
    spec = store.columns[column]
    contents = np.empty((len(store.blocks), store.length, *spec.shape), spec.dtype)
    for file in np.unique(located.files).tolist():
        section = state.sections[file][store.number]
        shape = section.count, store.length, *spec.shape
        here = located.files == file
        if contents.nbytes:
            count = section.count * store.length * spec.row_bytes
            raw = np.frombuffer(files[file], np.uint8, count, section.offsets[column])
            contents[here] = raw.view(spec.dtype).reshape(shape)[located.indices[here]]
    return contents


def _checked(path: Path, raw: bytes, size_and_sum: Iterable[int]) -> bytes:
    if [len(raw), zlib.crc32(raw)] != list(size_and_sum):
        raise CheckpointError(f"{path.name} is damaged")
    return raw
