"""Going on with a run that has ended: in its folder, under its name, from the checkpoints that it left."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from kourou import errors
from kourou.checkpoint_files import numbered
from kourou.runtime.files.run_folder import CHECKPOINTS, node_checkpoints
from kourou.runtime.model.names import label_of, root_of
from kourou.runtime.plan.plan import LaunchPlan

if TYPE_CHECKING:
    from kourou.runtime.launch.run import Run
    from kourou.runtime.monitoring.found_run import FoundRun

RESUME_VARIABLE = "KOUROU_RESUME"
"""The folder of a run that the next launch of a program of its name goes on with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resumed:
    """A run that is gone on with."""

    found: FoundRun

    @property
    def incarnation(self) -> int:
        """Of the run that begins now."""
        return self.found.info.incarnation + 1

    def check(self, plan: LaunchPlan) -> None:
        """See that the program is the one whose checkpoints there are.

        Raises:
            PlanError: the run is live, or a node that has a checkpoint is gone, is of another kind, or has got another
                number of replicas.
        """
        found = self.found
        if found.state.live:
            raise errors.PlanError(f"run {found.run_id} is {found.state}: stop it before it is resumed")
        then = {node["name"]: node["kind"] for node in found.plan()["nodes"]}
        now = {node.name: node.kind for node in plan.nodes}
        counts = [Counter(label_of(root) for root in {root_of(name) for name in each}) for each in (then, now)]
        problems, with_checkpoint = [], 0
        for name, kind in then.items():
            folder = node_checkpoints(found.path / CHECKPOINTS, name)
            if not numbered(folder):
                continue
            with_checkpoint += 1
            label = label_of(root_of(name))
            before, after = (count[label] for count in counts)
            if not after:
                change = f"the program has no label {label!r} any more"
            elif before != after:
                change = f"the program had {before} of {label!r}, and has {after}"
            elif now.get(name) != kind:
                change = f"it was a {kind}, and is a {now.get(name, 'nothing')}"
            else:
                continue
            problems.append(f"{name} has a checkpoint in {folder}, and {change}; without that folder it begins anew")
        if problems:
            raise errors.PlanError(*problems)
        if not with_checkpoint:
            told = f"kourou: run {found.run_id} left no checkpoints in its folder: its nodes begin anew"
            print(told, file=sys.stderr)  # noqa: T201 - whoever resumes a run expects some


def find_resumed(
    resume: Run | str | os.PathLike[str] | None, program: str, parent: str | os.PathLike[str] | None
) -> Resumed | None:
    """The run that a launch goes on with; None where it is a new one.

    Args:
        resume: what ``lp.launch`` was given: a run, its folder, its id or the beginning of that.
        program: the name of the program that is launched.
        parent: where runs are looked for; None: where they are by default.

    Raises:
        NotFound: there is no such run.
        NotOwned: others could have written it.
    """
    given = os.environ.get(RESUME_VARIABLE)
    if given is None and resume is None:
        return None
    from kourou.runtime.launch.run import Run  # noqa: PLC0415 - most launches begin anew
    from kourou.runtime.monitoring.run_search import choose_run, find_run  # noqa: PLC0415 - likewise

    if given is not None and (found := find_run(Path(given))).info.program == program:
        del os.environ[RESUME_VARIABLE]  # nodes launch programs, too
        return Resumed(found=found)
    if resume is None:
        return None
    if isinstance(resume, Run):
        return Resumed(found=find_run(resume.folder))
    word = os.fspath(resume)
    return Resumed(found=find_run(Path(word).absolute()) if Path(word).is_dir() else choose_run(word, parent))
