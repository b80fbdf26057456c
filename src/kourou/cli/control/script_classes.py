"""The classes of a run's script, for values that its nodes return."""

from __future__ import annotations

import contextlib
import json
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kourou import ownership
from kourou.runtime.files.run_folder import PAYLOADS, PLAN_FILE
from kourou.runtime.model.process import Payload
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.plan.payloads import script_of
from kourou.script import main_module, names

if TYPE_CHECKING:
    from typing_extensions import Self


@contextlib.contextmanager
def script_classes_of(found: FoundRun) -> Iterator[None]:
    """While entered, this process's ``__main__`` is the run's: what its nodes have, or what looks like it.

    A program of threads keeps its script to itself, and one of several hosts has sent it to them; then instances of the
    script's classes arrive as no more than their names and attributes.
    """
    plan = json.loads(ownership.read_own(found.path / PLAN_FILE))
    payloads = [node["process"]["payload"] for node in plan["nodes"] if node["process"] and node["process"]["payload"]]
    folder = found.path / PAYLOADS
    if payloads and folder.is_dir():  # it is not kept here where nodes are on other hosts
        script = main_module.installed(*script_of(Payload(**payloads[0]), folder))
    else:
        script = names.main_replaced_by(_StandInModule("__main__"))
    with script:
        yield


class _StandInModule(types.ModuleType):
    """Stands for the script's module: it has a class of any name."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (_StandIn,), {"__module__": "__main__"})
        setattr(self, name, made)
        return made


class _StandIn:
    """Stands for an object of a class that is not known here: its constructor's arguments and its attributes."""

    def __new__(cls, *values: Any) -> Self:
        made = super().__new__(cls)
        vars(made).update({str(index): value for index, value in enumerate(values)})
        return made

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            vars(self).update(part or {})

    def _asdict(self) -> dict[str, Any]:
        return vars(self)

    def __repr__(self) -> str:
        shown = (f"{value!r}" if name.isdigit() else f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({', '.join(shown)})"
