"""Generators and thread counts that a process has once: a fit finds them as if it were alone, and leaves no trace."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import random
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

from kourou import cpython, errors
from kourou.cpython import imported
from kourou.experiments.seeding import Seeder, seed_globals
from kourou.extras import load_extra


@contextlib.contextmanager
def isolated_globals(seeder: Seeder, threads: int | None) -> Iterator[None]:
    """In the body Python's, NumPy's and torch's global generators are seeded, and torch uses so many threads.

    Torch that is imported only in the body is seeded then. Bodies in several threads share NumPy's and Python's.

    Args:
        seeder: whence the seeds come.
        threads: of torch; None: as many as it has. Sums are rounded differently with another number.

    Raises:
        PlanError: torch, whose generator several threads would share; so does importing torch in the body.
    """
    hook = _ImportHook("torch", lambda: check_torch_alone(_active), lambda torch: _set_up(torch, seeder, threads))
    with _globals_restored():
        if torch := torch_module():
            check_torch_alone(_active)
            _set_up(torch, seeder, threads)
        else:
            sys.meta_path.insert(0, hook)
        seed_globals(seeder)
        try:
            yield
        finally:
            hook.remove()


def check_torch_alone(fits: int) -> None:
    """Refuse torch in several threads.

    Raises:
        PlanError: there is more than one fit.
    """
    if fits > 1:
        raise errors.PlanError(
            "torch's generator is one for all threads, so that results would depend on who comes first: use "
            'parallelization="process", or max_workers=1'
        )


_active = 0
_restorers: list[Callable[[], None]] = []
_lock = cpython.renewed_in_children(threading.Lock())


@contextlib.contextmanager
def _globals_restored() -> Iterator[None]:
    """Keep what the first of several bodies finds, and put it back after the last."""
    global _active  # noqa: PLW0603 - what is kept is global, too
    with _lock:
        _active += 1
        if _active == 1:
            _restorers[:] = _current_globals()
    try:
        yield
    finally:
        with _lock:
            _active -= 1
            if not _active:
                for restore in _restorers:
                    restore()


def _current_globals() -> list[Callable[[], None]]:
    """Functions that put back what there is now."""
    numpy_random, torch = load_extra("numpy").random, torch_module()
    found: list[Callable[[], None]] = [
        functools.partial(random.setstate, random.getstate()),
        functools.partial(numpy_random.set_state, numpy_random.get_state()),
    ]
    if torch:
        found += [
            functools.partial(torch.set_rng_state, torch.get_rng_state()),
            functools.partial(torch.set_num_threads, torch.get_num_threads()),
        ]
    return found


def torch_module() -> Any:
    """The module torch where this process has imported it; None otherwise."""
    return imported("torch")


def _set_up(torch: Any, seeder: Seeder, threads: int | None) -> None:
    torch.manual_seed(int(seeder.generate_state(3)[2]))  # as seed_globals does
    if threads is not None:
        torch.set_num_threads(threads)


class _ImportHook(MetaPathFinder):
    """Calls one function before a module is imported, and another one, with the module, as soon as it was."""

    def __init__(self, name: str, first: Callable[[], None], then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._first = first
        self._then = then

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        del path, target
        if fullname != self._name:
            return None
        self._first()
        self.remove()  # what follows is the usual search
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_then_call(module: ModuleType) -> None:
            run(module)
            self._then(module)

        spec.loader.exec_module = run_then_call  # type: ignore[method-assign]
        return spec

    def remove(self) -> None:
        """Remove the hook."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
