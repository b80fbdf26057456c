"""The scripts that Slurm runs, and the commands that submit them. Pure: nothing is written or called here."""

from __future__ import annotations

import dataclasses
import shlex
import string
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kourou.experiments.describe.naming import folder_name
from kourou.experiments.slurm.options import SlurmOptions
from kourou.experiments.slurm.template import INSIDE_VARIABLE
from kourou.experiments.sweep.prepared import PreparedRun
from kourou.runtime.launchers.engines.base import Submission
from kourou.runtime.launchers.engines.slurm_commands import quoted

JOB = "kourou.experiments.slurm.job"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSubmission(Submission):
    """One call of sbatch, for runs."""

    runs: tuple[PreparedRun, ...]
    """Those that its jobs run; of an array, element ``i`` runs the one at place ``i``."""
    array: bool

    def job_of(self, job: str, place: int) -> str:
        """The id of the job of one of its runs, once sbatch has given the id of the whole."""
        return f"{job}_{place}" if self.array else job


def job_command(manifest: Path, index: int | str) -> list[str]:
    """What a job executes: the run at a place of a manifest."""
    return [sys.executable, "-m", JOB, str(manifest), str(index)]


def submissions(
    runs: Sequence[PreparedRun], name: str, manifest: Path, options: SlurmOptions, *, largest_array: int
) -> list[RunSubmission]:
    """How runs are handed to Slurm: as arrays, or as one job each."""
    if options.template is not None or not options.array:
        return [_single(run, place, name, manifest, options) for place, run in enumerate(runs)]
    size = min(largest_array, options.max_array_size or largest_array)
    return [_array(runs[first : first + size], first, name, manifest, options) for first in range(0, len(runs), size)]


def _array(runs: Sequence[PreparedRun], first: int, name: str, manifest: Path, options: SlurmOptions) -> RunSubmission:
    folder = options.workdir or manifest.parent
    script = folder / f"{manifest.stem}-{first}.sh"
    index = f"$(( {first} + SLURM_ARRAY_TASK_ID ))" if first else "$SLURM_ARRAY_TASK_ID"
    command = f"{shlex.join(job_command(manifest, '')[:-1])} {index}"
    cap = f"%{options.at_once}" if options.at_once else ""
    arguments = [*options.arguments(name), f"--array=0-{len(runs) - 1}{cap}", f"--output={quoted(folder)}/%A_%a.out"]
    return RunSubmission(
        path=script,
        script=options.script(command),
        command=("sbatch", "--parsable", *arguments, str(script)),
        runs=tuple(runs),
        array=True,
    )


def _single(run: PreparedRun, place: int, name: str, manifest: Path, options: SlurmOptions) -> RunSubmission:
    folder = options.workdir or manifest.parent
    script = folder / f"sbatch_{folder_name(run.name)}.sh"
    command = shlex.join(job_command(manifest, place))
    if options.template is None:
        text = options.script(command)
    else:
        text = string.Template(_inside(options.template, command, script)).safe_substitute(
            CMD=f"sh {shlex.quote(str(script))} run",
            FILENAME=shlex.quote(str(script)),
            PARTITION=f"-p {options.partition} " if options.partition else "",
            GPU=options.gpus,
            CPU=options.cpus or 1,
            TIMEOUT=options.timeout,
        )
    output = f"--output={quoted(folder)}/{quoted(script.name)}-slurm-%j.out"
    return RunSubmission(
        path=script,
        script=text,
        command=("sbatch", "--parsable", *options.arguments(name), output, str(script)),
        runs=(run,),
        array=False,
    )


def _inside(template: Path, command: str, script: Path) -> str:
    """The text of a template, changed so that the batch process is ours and runs the rest of it as a child.

    $CMD is the same script, called with ``run``: plain words, which any quotes and containers let through. The
    launcher's Python watches the run; where there is none, as in a container, the Python that is there has to have
    kourou. Either way a run's own ``python`` is what the template made of it.
    """
    lines = template.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].startswith("#!"):
        lines.insert(0, "#!/bin/bash")
    header = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    own = f"""# What follows is kourou's, up to the next comment.
if [ "$${{1-}}" = run ]; then
    [ -x {_literal(shlex.quote(sys.executable))} ] && exec {_literal(command)}
    exec python {_literal(command.removeprefix(shlex.quote(sys.executable)).lstrip())}
elif [ "$${{{INSIDE_VARIABLE}-}}" != "$$SLURM_JOB_ID" ]; then
    trap '' USR1
    exec {_literal(command)} {_literal(shlex.quote(str(script)))}
fi
trap : USR1
# The template:"""
    return "\n".join([*lines[:header], own, *lines[header:], ""])


def _literal(text: str) -> str:
    """A text that is the same when a template was filled in."""
    return text.replace("$", "$$")


def submissions_as_text(planned: Sequence[RunSubmission]) -> str:
    """A dry run on Slurm: each script, and the command that would submit it."""
    parts = []
    for submission in planned:
        parts.append(f"# {submission.path}, for {', '.join(run.name for run in submission.runs)}:")
        parts.append(submission.script.rstrip())
        parts.append(f"# submitted by:\n{shlex.join(submission.command)}\n")
    return "\n".join(parts)


def submissions_as_json(planned: Sequence[RunSubmission]) -> list[dict[str, Any]]:
    """A dry run on Slurm as JSON holds it."""
    return [
        {"script": str(s.path), "text": s.script, "sbatch": s.command[2:], "runs": [run.name for run in s.runs]}
        for s in planned
    ]
