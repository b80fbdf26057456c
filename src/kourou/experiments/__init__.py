"""Experiments: descriptions of many runs, launching them, what they measured, and which of them differ.

NumPy, pandas, SciPy and PyYAML are loaded by the functions that need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kourou.experiments.affinity import Affinity, affinity_from_code, make_affinity
from kourou.experiments.affinity_code import (
    AffinityCode,
    decode_affinity,
    encode_affinity,
    get_n_run_slots,
    prepend_run_slot,
    remove_run_slot,
)
from kourou.experiments.comparisons import Comparison, compare_scores, permutation_test, tukey_hsd
from kourou.experiments.cpus import available_cores, fit_affinity
from kourou.experiments.curves import Band, aligned, mean_band, smoothed
from kourou.experiments.descriptions import Experiment, RunDescription
from kourou.experiments.event_files import read_events
from kourou.experiments.failures import (
    AffinityError,
    DescriptionError,
    ExperimentError,
    FitFailure,
    FitsFailed,
    ResultsError,
    SweepBusy,
    SweepError,
    VariantKeyError,
    VariantTypeError,
)
from kourou.experiments.metrics import log, log_to, read_metrics, read_progress
from kourou.experiments.parameters import ParamGenerator, ParamGrid, ParamList
from kourou.experiments.quick_affinity import quick_affinity_code
from kourou.experiments.results import find_runs, load_results, save_run
from kourou.experiments.runs import RunSpec, check_runs, run_seed
from kourou.experiments.search import Choice, Integers, RandomSearch, SobolSearch, Uniform
from kourou.experiments.seeding import Seeder, safe_reseed, seed_globals, seeder_for
from kourou.experiments.statistics import (
    Interval,
    bootstrap_interval,
    improvement_interval,
    iqm,
    probability_of_improvement,
)
from kourou.experiments.sweepfile import Sweep, load_sweep
from kourou.experiments.variants import VariantLevel, load_variant, make_variants, save_variant, update_config

if TYPE_CHECKING:
    from kourou.experiments.dry_run import plan_sweep
    from kourou.experiments.engine import SweepOptions
    from kourou.experiments.launching import SweepOutcome, run_sweep
    from kourou.experiments.managers.agent import Agent, AgentLike, AgentWithSimplePolicy
    from kourou.experiments.managers.evaluation import agent_scores, compare_agents, evaluate_agents, summarize_agents
    from kourou.experiments.managers.experiment_files import (
        experiment_generator,
        load_experiment_results,
        managers_of_file,
    )
    from kourou.experiments.managers.manager import ExperimentManager
    from kourou.experiments.managers.multiple import MultipleManagers
    from kourou.experiments.managers.stable_baselines import StableBaselinesAgent
    from kourou.experiments.managers.tuning import optimize_hyperparams
    from kourou.experiments.managers.writer import Writer
    from kourou.experiments.managers.writer_data import read_writer_data
    from kourou.experiments.managers.writer_plots import plot_writer_data
    from kourou.experiments.memory import GpuMemory, Memory
    from kourou.experiments.plots import learning_curves, plot
    from kourou.experiments.retries import Retry
    from kourou.experiments.rlpyt_launching import launch_experiment, run_experiments
    from kourou.experiments.run_records import RunRecord, RunState
    from kourou.experiments.slots import Share
    from kourou.experiments.slurm_launching import run_slurm_sweep
    from kourou.experiments.slurm_options import SlurmOptions
    from kourou.experiments.templates import run_template_sweep

# What launches and draws is loaded when it is asked for: a run that only logs needs none of it.
_LATER = {
    "Agent": "managers.agent",
    "AgentLike": "managers.agent",
    "AgentWithSimplePolicy": "managers.agent",
    "SweepOptions": "engine",
    "ExperimentManager": "managers.manager",
    "GpuMemory": "memory",
    "Memory": "memory",
    "MultipleManagers": "managers.multiple",
    "Retry": "retries",
    "RunRecord": "run_records",
    "RunState": "run_records",
    "Share": "slots",
    "SlurmOptions": "slurm_options",
    "StableBaselinesAgent": "managers.stable_baselines",
    "SweepOutcome": "launching",
    "Writer": "managers.writer",
    "agent_scores": "managers.evaluation",
    "compare_agents": "managers.evaluation",
    "evaluate_agents": "managers.evaluation",
    "experiment_generator": "managers.experiment_files",
    "launch_experiment": "rlpyt_launching",
    "learning_curves": "plots",
    "load_experiment_results": "managers.experiment_files",
    "managers_of_file": "managers.experiment_files",
    "optimize_hyperparams": "managers.tuning",
    "plan_sweep": "dry_run",
    "plot": "plots",
    "plot_writer_data": "managers.writer_plots",
    "read_writer_data": "managers.writer_data",
    "run_experiments": "rlpyt_launching",
    "run_slurm_sweep": "slurm_launching",
    "run_sweep": "launching",
    "run_template_sweep": "templates",
    "summarize_agents": "managers.evaluation",
}

__all__ = [
    "Affinity",
    "AffinityCode",
    "AffinityError",
    "Agent",
    "AgentLike",
    "AgentWithSimplePolicy",
    "Band",
    "Choice",
    "Comparison",
    "DescriptionError",
    "Experiment",
    "ExperimentError",
    "ExperimentManager",
    "FitFailure",
    "FitsFailed",
    "GpuMemory",
    "Integers",
    "Interval",
    "Memory",
    "MultipleManagers",
    "ParamGenerator",
    "ParamGrid",
    "ParamList",
    "RandomSearch",
    "ResultsError",
    "Retry",
    "RunDescription",
    "RunRecord",
    "RunSpec",
    "RunState",
    "Seeder",
    "Share",
    "SlurmOptions",
    "SobolSearch",
    "StableBaselinesAgent",
    "Sweep",
    "SweepBusy",
    "SweepError",
    "SweepOptions",
    "SweepOutcome",
    "Uniform",
    "VariantKeyError",
    "VariantLevel",
    "VariantTypeError",
    "Writer",
    "affinity_from_code",
    "agent_scores",
    "aligned",
    "available_cores",
    "bootstrap_interval",
    "check_runs",
    "compare_agents",
    "compare_scores",
    "decode_affinity",
    "encode_affinity",
    "evaluate_agents",
    "experiment_generator",
    "find_runs",
    "fit_affinity",
    "get_n_run_slots",
    "improvement_interval",
    "iqm",
    "launch_experiment",
    "learning_curves",
    "load_experiment_results",
    "load_results",
    "load_sweep",
    "load_variant",
    "log",
    "log_to",
    "make_affinity",
    "make_variants",
    "managers_of_file",
    "mean_band",
    "optimize_hyperparams",
    "permutation_test",
    "plan_sweep",
    "plot",
    "plot_writer_data",
    "prepend_run_slot",
    "probability_of_improvement",
    "quick_affinity_code",
    "read_events",
    "read_metrics",
    "read_progress",
    "read_writer_data",
    "remove_run_slot",
    "run_experiments",
    "run_seed",
    "run_slurm_sweep",
    "run_sweep",
    "run_template_sweep",
    "safe_reseed",
    "save_run",
    "save_variant",
    "seed_globals",
    "seeder_for",
    "smoothed",
    "summarize_agents",
    "tukey_hsd",
    "update_config",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
