"""Experiments: descriptions of many runs, launching them, what they measured, and which of them differ.

NumPy, pandas, SciPy and PyYAML are loaded by the functions that need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kourou.later import import_later

if TYPE_CHECKING:
    from kourou.experiments.agents.agent import (
        Agent as Agent,
        AgentLike as AgentLike,
        AgentWithSimplePolicy as AgentWithSimplePolicy,
    )
    from kourou.experiments.agents.stable_baselines import StableBaselinesAgent as StableBaselinesAgent
    from kourou.experiments.agents.writer import Writer as Writer
    from kourou.experiments.describe.descriptions import Experiment as Experiment, RunDescription as RunDescription
    from kourou.experiments.describe.parameters import (
        ParamGenerator as ParamGenerator,
        ParamGrid as ParamGrid,
        ParamList as ParamList,
    )
    from kourou.experiments.describe.runs import RunSpec as RunSpec, check_runs as check_runs, run_seed as run_seed
    from kourou.experiments.describe.search import (
        Choice as Choice,
        Integers as Integers,
        RandomSearch as RandomSearch,
        SobolSearch as SobolSearch,
        Uniform as Uniform,
    )
    from kourou.experiments.describe.sweepfile import Sweep as Sweep, load_sweep as load_sweep
    from kourou.experiments.describe.variants import (
        VariantLevel as VariantLevel,
        load_variant as load_variant,
        make_variants as make_variants,
        save_variant as save_variant,
        update_config as update_config,
    )
    from kourou.experiments.failures import (
        AffinityError as AffinityError,
        DescriptionError as DescriptionError,
        ExperimentError as ExperimentError,
        FitFailure as FitFailure,
        FitsFailed as FitsFailed,
        ResultsError as ResultsError,
        SweepBusy as SweepBusy,
        SweepError as SweepError,
        SweepInterrupted as SweepInterrupted,
        VariantKeyError as VariantKeyError,
        VariantTypeError as VariantTypeError,
    )
    from kourou.experiments.journal.returned import run_result as run_result
    from kourou.experiments.journal.run_records import RunRecord as RunRecord, RunState as RunState
    from kourou.experiments.managers.evaluation import (
        agent_scores as agent_scores,
        compare_agents as compare_agents,
        evaluate_agents as evaluate_agents,
        summarize_agents as summarize_agents,
    )
    from kourou.experiments.managers.experiment_files import (
        experiment_generator as experiment_generator,
        load_experiment_results as load_experiment_results,
        managers_of_file as managers_of_file,
    )
    from kourou.experiments.managers.manager import ExperimentManager as ExperimentManager
    from kourou.experiments.managers.multiple import MultipleManagers as MultipleManagers
    from kourou.experiments.managers.tuning import optimize_hyperparams as optimize_hyperparams
    from kourou.experiments.managers.writer_data import read_writer_data as read_writer_data
    from kourou.experiments.managers.writer_plots import plot_writer_data as plot_writer_data
    from kourou.experiments.results.comparisons import (
        Comparison as Comparison,
        compare_scores as compare_scores,
        permutation_test as permutation_test,
        tukey_hsd as tukey_hsd,
    )
    from kourou.experiments.results.curves import (
        Band as Band,
        aligned as aligned,
        mean_band as mean_band,
        smoothed as smoothed,
    )
    from kourou.experiments.results.event_files import read_events as read_events
    from kourou.experiments.results.plots import learning_curves as learning_curves, plot as plot
    from kourou.experiments.results.progress import read_progress as read_progress
    from kourou.experiments.results.results import (
        find_runs as find_runs,
        load_results as load_results,
        save_run as save_run,
    )
    from kourou.experiments.results.statistics import (
        Interval as Interval,
        bootstrap_interval as bootstrap_interval,
        improvement_interval as improvement_interval,
        iqm as iqm,
        probability_of_improvement as probability_of_improvement,
    )
    from kourou.experiments.rlpyt.affinity import (
        Affinity as Affinity,
        affinity_from_code as affinity_from_code,
        make_affinity as make_affinity,
    )
    from kourou.experiments.rlpyt.affinity_code import (
        AffinityCode as AffinityCode,
        decode_affinity as decode_affinity,
        encode_affinity as encode_affinity,
        get_n_run_slots as get_n_run_slots,
        prepend_run_slot as prepend_run_slot,
        remove_run_slot as remove_run_slot,
    )
    from kourou.experiments.rlpyt.cpus import (
        available_cores as available_cores,
        fit_affinity as fit_affinity,
        quick_affinity_code as quick_affinity_code,
    )
    from kourou.experiments.rlpyt.launch import (
        launch_experiment as launch_experiment,
        run_experiments as run_experiments,
    )
    from kourou.experiments.seeding import (
        Seeder as Seeder,
        safe_reseed as safe_reseed,
        seed_globals as seed_globals,
        seeder_for as seeder_for,
    )
    from kourou.experiments.slurm.launch import run_slurm_sweep as run_slurm_sweep
    from kourou.experiments.slurm.options import SlurmOptions as SlurmOptions
    from kourou.experiments.sweep.dry_run import plan_sweep as plan_sweep
    from kourou.experiments.sweep.free_memory import GpuMemory as GpuMemory, Memory as Memory
    from kourou.experiments.sweep.launch import SweepOutcome as SweepOutcome, run_sweep as run_sweep
    from kourou.experiments.sweep.retries import Retry as Retry
    from kourou.experiments.sweep.scheduler import SweepOptions as SweepOptions
    from kourou.experiments.sweep.slots import Share as Share
    from kourou.experiments.sweep.templates import run_template_sweep as run_template_sweep
    from kourou.runtime.metrics.log import log as log, log_to as log_to
    from kourou.runtime.metrics.reading import read_metrics as read_metrics
else:
    __getattr__, __dir__, __all__ = import_later(
        __name__,
        {
            "..runtime.metrics.log": "log log_to",
            "..runtime.metrics.reading": "read_metrics",
            ".agents.agent": "Agent AgentLike AgentWithSimplePolicy",
            ".agents.stable_baselines": "StableBaselinesAgent",
            ".agents.writer": "Writer",
            ".describe.descriptions": "Experiment RunDescription",
            ".describe.parameters": "ParamGenerator ParamGrid ParamList",
            ".describe.runs": "RunSpec check_runs run_seed",
            ".describe.search": "Choice Integers RandomSearch SobolSearch Uniform",
            ".describe.sweepfile": "Sweep load_sweep",
            ".describe.variants": "VariantLevel load_variant make_variants save_variant update_config",
            ".failures": "AffinityError DescriptionError ExperimentError FitFailure FitsFailed ResultsError "
            "SweepBusy SweepError SweepInterrupted VariantKeyError VariantTypeError",
            ".journal.returned": "run_result",
            ".journal.run_records": "RunRecord RunState",
            ".managers.evaluation": "agent_scores compare_agents evaluate_agents summarize_agents",
            ".managers.experiment_files": "experiment_generator load_experiment_results managers_of_file",
            ".managers.manager": "ExperimentManager",
            ".managers.multiple": "MultipleManagers",
            ".managers.tuning": "optimize_hyperparams",
            ".managers.writer_data": "read_writer_data",
            ".managers.writer_plots": "plot_writer_data",
            ".results.comparisons": "Comparison compare_scores permutation_test tukey_hsd",
            ".results.curves": "Band aligned mean_band smoothed",
            ".results.event_files": "read_events",
            ".results.plots": "learning_curves plot",
            ".results.progress": "read_progress",
            ".results.results": "find_runs load_results save_run",
            ".results.statistics": "Interval bootstrap_interval improvement_interval iqm probability_of_improvement",
            ".rlpyt.affinity": "Affinity affinity_from_code make_affinity",
            ".rlpyt.affinity_code": "AffinityCode decode_affinity encode_affinity get_n_run_slots prepend_run_slot "
            "remove_run_slot",
            ".rlpyt.cpus": "available_cores fit_affinity quick_affinity_code",
            ".rlpyt.launch": "launch_experiment run_experiments",
            ".seeding": "Seeder safe_reseed seed_globals seeder_for",
            ".slurm.launch": "run_slurm_sweep",
            ".slurm.options": "SlurmOptions",
            ".sweep.dry_run": "plan_sweep",
            ".sweep.free_memory": "GpuMemory Memory",
            ".sweep.launch": "SweepOutcome run_sweep",
            ".sweep.retries": "Retry",
            ".sweep.scheduler": "SweepOptions",
            ".sweep.slots": "Share",
            ".sweep.templates": "run_template_sweep",
        },
    )
