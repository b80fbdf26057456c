"""``python -m kourou.experiments.run``: Sample Factory's launcher, with its flags.

Example::

    python -m kourou.experiments.run --run=my.experiments.all_envs --backend=processes --max_parallel=8 --num_gpus=4

The exit code is 0 when all runs succeeded, 1 when one failed, 2 for a mistake in the command line or the description,
130 after Ctrl-C. A launch that is repeated skips what has finished. Pauses between starts are 0 by default: nothing
here needs them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kourou import errors
from kourou.experiments.failures import SweepInterrupted
from kourou.experiments.slurm.launch import plan_slurm_sweep, run_slurm_sweep
from kourou.experiments.slurm.options import SlurmOptions
from kourou.experiments.slurm.script import submissions_as_text
from kourou.experiments.sweep.dry_run import plan_sweep
from kourou.experiments.sweep.launch import SweepOutcome, run_sweep
from kourou.experiments.sweep.reporting import LineReporter, planned_as_text, summary
from kourou.experiments.sweep.scheduler import SweepOptions
from kourou.experiments.sweep.slots import Share
from kourou.experiments.sweep.sources import Changes, LoadedSweep, load_source
from kourou.experiments.sweep.templates import plan_template_sweep, run_template_sweep

_BAD_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Launch as the command line says; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = launcher_argparser(words)
    args = parser.parse_args(words)
    if args.run is None:  # a parser that others extend, or only look at, does without, as Sample Factory's
        parser.error("the following arguments are required: --run")
    changes = Changes(
        train_dir=args.train_dir,
        experiment_suffix=args.experiment_suffix,
        repeats=args.repeats,
        root_seed=args.root_seed,
    )
    try:
        loaded = load_source(args.run, changes)
        outcome = _BACKENDS[args.backend](loaded, args)
    except SweepInterrupted as interrupted:
        outcome = interrupted.outcome
    except (errors.KourouError, FileNotFoundError) as error:
        print(f"kourou: {error}", file=sys.stderr)  # noqa: T201 - a command line's error
        return _BAD_USAGE
    if outcome is None:
        return 0
    print(summary(outcome), file=sys.stderr)  # noqa: T201 - a command line's result
    return outcome.exit_code


def launcher_argparser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; which flags it has depends on the backend that the arguments choose."""
    parser = argparse.ArgumentParser(
        prog="python -m kourou.experiments.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--train_dir", default="./train_dir", help="Directory for sub-experiments")
    add("--run", default=None, help="Name of the python module that describes the run, or a file")
    add("--backend", default="processes", choices=tuple(_BACKENDS))
    add("--pause_between", default=0, type=int, help="Pause in seconds between processes")
    add("--experiment_suffix", default="", help="Append this to the name of the experiment dir")
    add("--repeats", default=None, type=int, help="Runs of each setting, each with a seed of its own")
    add("--root_seed", default=None, type=int, help="From which the repeats' seeds are derived")
    add("--rerun", default="lost", choices=("lost", "failed", "all"), help="What is run again")
    add("--print_only", default=False, type=str2bool, help="Print what would be started, and do nothing")
    chosen, _ = _backend_parser().parse_known_args(arguments)
    add_flags = _FLAGS.get(chosen.backend)
    if add_flags is not None:  # else the parser refuses the backend
        add_flags(parser)
    return parser


def _backend_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--backend", default="processes")
    return parser


def str2bool(text: str) -> bool:
    """``True`` or ``False``, as Sample Factory has flags."""
    if text.lower() not in {"true", "false"}:
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return text.lower() == "true"


def _process_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--num_gpus", default=1, type=int, help="How many GPUs to use")
    add(
        "--experiments_per_gpu",
        default=-1,
        type=int,
        help="How many experiments share a GPU (-1 for not altering CUDA_VISIBLE_DEVICES at all)",
    )
    add("--max_parallel", default=4, type=int, help="Maximum simultaneous experiments")


def _run_processes(loaded: LoadedSweep, args: argparse.Namespace) -> SweepOutcome | None:
    share = Share(parallel=args.max_parallel)
    if args.experiments_per_gpu > 0:
        share = Share(parallel=args.max_parallel, gpus=args.num_gpus, runs_per_gpu=args.experiments_per_gpu)
    if args.print_only:
        print(planned_as_text(plan_sweep(loaded.runs, loaded.folder, share=share, rerun=args.rerun)))  # noqa: T201
        return None
    return run_sweep(
        loaded.runs,
        loaded.folder,
        share=share,
        options=SweepOptions(pause_s=args.pause_between),
        rerun=args.rerun,
        on_change=LineReporter.of_sweep(loaded.runs, loaded.folder, args.rerun),
        source=loaded.source,
    )


def _slurm_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--slurm_gpus_per_job", default=1, type=int, help="GPUs in a single SLURM process")
    add("--slurm_cpus_per_gpu", default=14, type=int, help="CPU cores per allocated GPU")
    add("--slurm_print_only", default=False, type=str2bool, help="Just print what would be submitted")
    add("--slurm_workdir", default=None, help="Where scripts and jobs' output go")
    add("--slurm_partition", default=None, help="Slurm partition")
    add("--slurm_sbatch_template", default=None, help="Script around the experiment's $CMD")
    add("--slurm_timeout", default="0", help="$TIMEOUT of the template; 0: none")


def _run_slurm(loaded: LoadedSweep, args: argparse.Namespace) -> SweepOutcome | None:
    template, workdir = args.slurm_sbatch_template, args.slurm_workdir
    slurm = SlurmOptions(
        partition=args.slurm_partition,
        gpus=args.slurm_gpus_per_job,
        cpus=max(1, args.slurm_cpus_per_gpu * max(1, args.slurm_gpus_per_job)),
        array=False,
        template=Path(template) if template is not None else None,
        timeout=args.slurm_timeout,
        workdir=Path(workdir).absolute() if workdir is not None else None,
        pause_s=args.pause_between,
    )
    if args.slurm_print_only or args.print_only:
        print(submissions_as_text(plan_slurm_sweep(loaded.runs, loaded.folder, slurm=slurm, rerun=args.rerun)))  # noqa: T201
        return None
    outcome = run_slurm_sweep(
        loaded.runs,
        loaded.folder,
        slurm=slurm,
        rerun=args.rerun,
        wait=False,
        on_change=LineReporter.of_sweep(loaded.runs, loaded.folder, args.rerun),
        source=loaded.source,
    )
    print(f"follow it with: kourou sweep status --watch {shlex.quote(str(outcome.folder))}", file=sys.stderr)  # noqa: T201
    return outcome


def _ngc_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--ngc_job_template", required=True, help="NGC command line template")
    add("--ngc_workdir", default="./train_dir", help="Where the journal is kept; --train_dir is a place over there")
    add("--ngc_print_only", default=False, type=str2bool, help="Just print commands without executing them")


def _run_ngc(loaded: LoadedSweep, args: argparse.Namespace) -> SweepOutcome | None:
    template = Path(args.ngc_job_template).read_text(encoding="utf-8")
    folder = Path(args.ngc_workdir, loaded.folder.name).absolute()
    if args.ngc_print_only or args.print_only:
        for _, words in plan_template_sweep(loaded.runs, folder, template, rerun=args.rerun):
            print(shlex.join(words))  # noqa: T201 - what was asked for
        return None
    return run_template_sweep(
        loaded.runs,
        folder,
        template,
        rerun=args.rerun,
        pause_s=args.pause_between,
        on_change=LineReporter.of_sweep(loaded.runs, folder, args.rerun),
        source=loaded.source,
    )


_FLAGS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "processes": _process_flags,
    "slurm": _slurm_flags,
    "ngc": _ngc_flags,
}
_BACKENDS: dict[str, Callable[[LoadedSweep, Any], SweepOutcome | None]] = {
    "processes": _run_processes,
    "slurm": _run_slurm,
    "ngc": _run_ngc,
}


if __name__ == "__main__":
    sys.exit(main())
