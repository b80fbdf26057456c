"""Generators and thread counts that a process has once: a fit finds them as if it were alone, and leaves no trace."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import sys
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

from kourou.experiments.extras import load_extra
from kourou.experiments.seeding import Seeder, seed_globals

__all__ = ["own_globals", "torch_module"]


@contextlib.contextmanager
def own_globals(seeder: Seeder, threads: int | None) -> Iterator[None]:
    """In the body Python's, NumPy's and torch's global generators are seeded, and torch uses so many threads.

    Torch that is imported only in the body is seeded then.

    Args:
        seeder: whence the seeds come.
        threads: of torch; None: as many as it has. Sums are rounded differently with another number.
    """
    numpy_random = load_extra("numpy").random
    before = random.getstate(), numpy_random.get_state()
    torch = torch_module()
    torch_before = (torch.get_rng_state(), torch.get_num_threads()) if torch else None
    hook = _AfterImport("torch", lambda module: _set_up(module, seeder, threads))
    if torch:
        _set_up(torch, seeder, threads)
    else:
        sys.meta_path.insert(0, hook)
    seed_globals(seeder)
    try:
        yield
    finally:
        hook.remove()
        random.setstate(before[0])
        numpy_random.set_state(before[1])
        if torch and torch_before:
            torch.set_rng_state(torch_before[0])
            torch.set_num_threads(torch_before[1])


def torch_module() -> Any:
    """The module torch where this process has imported it; None otherwise."""
    return sys.modules.get("torch")


def _set_up(torch: Any, seeder: Seeder, threads: int | None) -> None:
    torch.manual_seed(int(seeder.generate_state(3)[2]))  # as seed_globals does
    if threads is not None:
        torch.set_num_threads(threads)


class _AfterImport(MetaPathFinder):
    """Calls a function with a module as soon as that was imported."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """See :class:`importlib.abc.MetaPathFinder`."""
        del path, target
        if fullname != self._name:
            return None
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
        """Watch no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
