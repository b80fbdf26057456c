"""Which lock is taken while which other is held: looked at while a program runs, for tests/test_concurrency_page.py.

:func:`install` has to come before kourou is imported. Locks that kourou's code makes from then on are known by where
they are made. GATES are left out: a thread sleeps at one until another opens it, so nobody holds them.
"""

from __future__ import annotations

import ast
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent.parent / "src" / "kourou"
_MAKERS = frozenset({"Lock", "RLock", "Condition", "Semaphore"})
GATES = frozenset(
    {
        "courier.BackgroundLoop._gate",
        "courier.DeferredCalls._sending",
        "courier.LoopGate._lock",
        "courier.Reply.gate",
        "courier.StreamBuffer.news",
        "courier._Helper._done",
        "courier._Helper._wanted",
        "courier._Worker.gate",
        "runtime._ConcurrencyLimit._free",
        "runtime.startup.left",
    }
)
_HERE = {"lock_order.py", "threading.py"}


def locks() -> dict[tuple[str, int], tuple[str, str]]:
    """All locks that kourou makes: file and line → name (``package.Class.attribute``) and kind."""
    found = {}
    for file in SOURCE.rglob("*.py"):
        package, *_ = file.relative_to(SOURCE).parts
        text = file.read_text(encoding="utf-8")
        if "threading." in text and package != "testing":
            for line, name, kind in _made(ast.parse(text), file.stem, ""):
                found[str(file), line] = f"{package}.{name}", kind
    return found


def _made(node: ast.AST, owner: str, target: str) -> Iterator[tuple[int, str, str]]:
    if isinstance(node, ast.ClassDef):
        owner = node.name
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        first = node.targets[0] if isinstance(node, ast.Assign) else node.target
        target = ast.unparse(first).rpartition(".")[2]
    if isinstance(node, ast.Call) and ast.unparse(node.func).partition("threading.")[2] in _MAKERS:
        yield node.lineno, f"{owner}.{target}", ast.unparse(node.func).removeprefix("threading.")
        return  # Condition(Lock()) is one
    for child in ast.iter_child_nodes(node):
        yield from _made(child, owner, target)


class LockOrder:
    """What was seen so far. ``tell`` is called with each pair of names that is new: held, taken."""

    def __init__(self, tell: Callable[[str, str], object]) -> None:
        self._tell = tell
        self._seen: set[tuple[str, str]] = set()
        self._held = threading.local()
        self._names = {place: name for place, (name, _) in locks().items()}

    def install(self) -> None:
        """From now on, look at the locks that kourou makes."""
        for maker in ("Lock", "RLock"):
            setattr(threading, maker, self._making(getattr(threading, maker)))

    def _making(self, make: Callable[[], Any]) -> Callable[[], Any]:
        def made() -> Any:
            name = self._name()
            return make() if name is None or name in GATES else Watched(make(), name, self)

        return made

    def _name(self) -> str | None:
        frame = sys._getframe(1)
        while Path(frame.f_code.co_filename).name in _HERE and frame.f_back is not None:
            frame = frame.f_back
        return self._names.get((frame.f_code.co_filename, frame.f_lineno))

    def held(self) -> list[Watched]:
        """What the calling thread holds, in the order in which it took it."""
        held: list[Watched] = self._held.__dict__.setdefault("locks", [])
        return held

    def take(self, lock: Watched, *, may_wait: bool) -> None:
        """The calling thread is about to take a lock, and may have to wait for it."""
        held = self.held()
        if not may_wait or lock in held:
            return
        for other in held:
            pair = other.name, lock.name
            if pair not in self._seen:
                self._seen.add(pair)
                self._tell(*pair)


class Watched:
    """A lock that tells when it is taken and released."""

    def __init__(self, lock: Any, name: str, order: LockOrder) -> None:
        self._lock = lock
        self._order = order
        self._holder: list[Watched] = []
        self.name = name
        for inner in ("_is_owned", "_at_fork_reinit"):
            if hasattr(lock, inner):
                setattr(self, inner, getattr(lock, inner))
        if hasattr(lock, "_release_save"):  # a condition that waits lets go of a reentrant lock by these
            self._release_save, self._acquire_restore = self._save, self._restore

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self._order.take(self, may_wait=blocking)
        taken: bool = self._lock.acquire(blocking, timeout)
        if taken:
            self._holder = self._order.held()
            self._holder.append(self)
        return taken

    def release(self) -> None:
        holder = self._holder
        if self in holder:
            del holder[len(holder) - 1 - holder[::-1].index(self)]
        self._lock.release()

    def locked(self) -> bool:
        locked: bool = self._lock.locked()
        return locked

    def _save(self) -> Any:
        held = self._order.held()
        held[:] = [other for other in held if other is not self]
        return self._lock._release_save()

    def _restore(self, state: Any) -> None:
        self._lock._acquire_restore(state)
        self._holder = self._order.held()
        self._holder.append(self)

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()


def install(file: str) -> None:
    """Write each pair of locks to a file, once in each process, as soon as it is seen."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    LockOrder(lambda held, taken: os.write(descriptor, f"{held} {taken}\n".encode())).install()


def cycle_in(pairs: set[tuple[str, str]]) -> list[str]:
    """Locks that are taken in a circle, the first one again at the end; empty: there are none."""
    after: dict[str, list[str]] = {}
    for held, taken in sorted(pairs):
        after.setdefault(held, []).append(taken)
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        found = next(filter(None, (walk(other, [*path, name]) for other in after.get(name, ()))), [])
        done.add(name)
        return found

    return next(filter(None, (walk(name, []) for name in list(after))), [])
