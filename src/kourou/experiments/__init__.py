"""Experiments: descriptions of many runs, launching them, what they measured, and which of them differ.

NumPy, pandas, SciPy and PyYAML are loaded by the functions that need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kourou.experiments.describe.descriptions import Experiment, RunDescription
from kourou.experiments.describe.parameters import ParamGenerator, ParamGrid, ParamList
from kourou.experiments.describe.runs import RunSpec, check_runs, run_seed
from kourou.experiments.describe.search import Choice, Integers, RandomSearch, SobolSearch, Uniform
from kourou.experiments.describe.sweepfile import Sweep, load_sweep
from kourou.experiments.describe.variants import (
    VariantLevel,
    load_variant,
    make_variants,
    save_variant,
    update_config,
)
from kourou.experiments.failures import (
    AffinityError,
    DescriptionError,
    ExperimentError,
    FitFailure,
    FitsFailed,
    ResultsError,
    SweepBusy,
    SweepError,
    SweepInterrupted,
    VariantKeyError,
    VariantTypeError,
)
from kourou.experiments.results.comparisons import Comparison, compare_scores, permutation_test, tukey_hsd
from kourou.experiments.results.curves import Band, aligned, mean_band, smoothed
from kourou.experiments.results.event_files import read_events
from kourou.experiments.results.progress import read_progress
from kourou.experiments.results.results import find_runs, load_results, save_run
from kourou.experiments.results.statistics import (
    Interval,
    bootstrap_interval,
    improvement_interval,
    iqm,
    probability_of_improvement,
)
from kourou.experiments.rlpyt.affinity import Affinity, affinity_from_code, make_affinity
from kourou.experiments.rlpyt.affinity_code import (
    AffinityCode,
    decode_affinity,
    encode_affinity,
    get_n_run_slots,
    prepend_run_slot,
    remove_run_slot,
)
from kourou.experiments.rlpyt.cpus import available_cores, fit_affinity
from kourou.experiments.rlpyt.quick_affinity import quick_affinity_code
from kourou.experiments.seeding import Seeder, safe_reseed, seed_globals, seeder_for
from kourou.later import import_later
from kourou.runtime.metrics.log import log, log_to
from kourou.runtime.metrics.reading import read_metrics

if TYPE_CHECKING:
    from kourou.experiments.agents.agent import Agent, AgentLike, AgentWithSimplePolicy
    from kourou.experiments.agents.stable_baselines import StableBaselinesAgent
    from kourou.experiments.agents.writer import Writer
    from kourou.experiments.journal.run_records import RunRecord, RunState
    from kourou.experiments.managers.evaluation import agent_scores, compare_agents, evaluate_agents, summarize_agents
    from kourou.experiments.managers.experiment_files import (
        experiment_generator,
        load_experiment_results,
        managers_of_file,
    )
    from kourou.experiments.managers.manager import ExperimentManager
    from kourou.experiments.managers.multiple import MultipleManagers
    from kourou.experiments.managers.tuning import optimize_hyperparams
    from kourou.experiments.managers.writer_data import read_writer_data
    from kourou.experiments.managers.writer_plots import plot_writer_data
    from kourou.experiments.results.plots import learning_curves, plot
    from kourou.experiments.rlpyt.launch import launch_experiment, run_experiments
    from kourou.experiments.slurm.launch import run_slurm_sweep
    from kourou.experiments.slurm.options import SlurmOptions
    from kourou.experiments.sweep.dry_run import plan_sweep
    from kourou.experiments.sweep.free_memory import GpuMemory, Memory
    from kourou.experiments.sweep.launch import SweepOutcome, run_sweep
    from kourou.experiments.sweep.retries import Retry
    from kourou.experiments.sweep.scheduler import SweepOptions
    from kourou.experiments.sweep.slots import Share
    from kourou.experiments.sweep.templates import run_template_sweep

# What launches and draws is loaded when it is asked for: a run that only logs needs none of it.
_LATER = {
    "agents.agent": "Agent AgentLike AgentWithSimplePolicy",
    "agents.stable_baselines": "StableBaselinesAgent",
    "agents.writer": "Writer",
    "journal.run_records": "RunRecord RunState",
    "managers.evaluation": "agent_scores compare_agents evaluate_agents summarize_agents",
    "managers.experiment_files": "experiment_generator load_experiment_results managers_of_file",
    "managers.manager": "ExperimentManager",
    "managers.multiple": "MultipleManagers",
    "managers.tuning": "optimize_hyperparams",
    "managers.writer_data": "read_writer_data",
    "managers.writer_plots": "plot_writer_data",
    "results.plots": "learning_curves plot",
    "rlpyt.launch": "launch_experiment run_experiments",
    "slurm.launch": "run_slurm_sweep",
    "slurm.options": "SlurmOptions",
    "sweep.dry_run": "plan_sweep",
    "sweep.free_memory": "GpuMemory Memory",
    "sweep.launch": "SweepOutcome run_sweep",
    "sweep.retries": "Retry",
    "sweep.scheduler": "SweepOptions",
    "sweep.slots": "Share",
    "sweep.templates": "run_template_sweep",
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
    "SweepInterrupted",
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

if not TYPE_CHECKING:  # who checks types knows all names
    __getattr__, __dir__ = import_later(__name__, _LATER)
