"""Which trained agents are better: scores as tables, summaries with intervals, and tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast

from kourou.experiments.failures import ResultsError
from kourou.experiments.managers.manager import ExperimentManager
from kourou.experiments.managers.writer_data import Source, distinct, managers_in
from kourou.experiments.results.comparisons import compare_scores
from kourou.experiments.results.statistics import bootstrap_interval, improvement_interval
from kourou.extras import load_extra

_SIMULATIONS = 50
_PERMUTATIONS = 10_000


def evaluate_agents(
    source: Source,
    n_simulations: int = 5,
    choose_random_agents: bool = True,  # noqa: FBT001, FBT002 - rlberry's
    fignum: str | int | None = None,
    show: bool = False,  # noqa: FBT001, FBT002 - rlberry's
    plot: bool = False,  # noqa: FBT001, FBT002 - rlberry's
) -> Any:
    """A DataFrame with a column for each agent and a row for each evaluation.

    A name that comes twice gets a ``*``; agents with fewer evaluations, such as none because they are not trained,
    have missing values.

    Args:
        source: managers, or their folders.
        n_simulations: evaluations of each agent.
        choose_random_agents: whether the trained fits of an agent take turns at these; else each has so many.
        fignum: number or name of pyplot's figure, for ``plot``.
        show: whether to open a window with the plot.
        plot: whether to draw a box for each agent, into pyplot's current figure.
    """
    pandas = load_extra("pandas")
    columns = {}
    for name, manager in _named(source).items():
        turns: Sequence[int | None] = (None,) if choose_random_agents else manager.fitted
        scores = (
            [s for fit in turns for s in manager.eval_agents(n_simulations, agent_id=fit)] if manager.fitted else []
        )
        columns[name] = pandas.Series(scores, dtype=float)
    frame = pandas.DataFrame(columns)
    if plot or show:
        pyplot = load_extra("matplotlib.pyplot")
        axes = pyplot.figure(fignum).gca()
        axes.boxplot([frame[name].dropna() for name in frame], tick_labels=list(frame.columns))
        axes.set(xlabel="agent", ylabel="evaluation output")
        if show:
            pyplot.show()
    return frame


class EvalFunction(Protocol):
    """Scores a fit: by one number, or by several, whose mean counts."""

    def __call__(self, manager: ExperimentManager, /, *, eval_budget: int, agent_id: int) -> Any:
        """``eval_budget`` is the number of simulations, ``agent_id`` the fit's number."""


def agent_scores(
    source: Source | Any,
    *,
    n_simulations: int = _SIMULATIONS,
    eval_function: EvalFunction | None = None,
) -> dict[str, list[float]]:
    """For each agent the score of each trained fit: the mean of its evaluations.

    Args:
        source: managers, their folders, the files that ``save`` returned, or a DataFrame that has scores already: the
            columns ``agent`` and ``mean_eval``.
        n_simulations: evaluations of each fit.
        eval_function: what to call instead, as ``eval_function(manager, eval_budget=n_simulations, agent_id=fit)``.

    Raises:
        ResultsError: an agent is not trained.
    """
    if hasattr(source, "groupby"):
        groups = cast("Any", source).groupby("agent", sort=False)["mean_eval"]
        return {str(name): list(map(float, scores)) for name, scores in groups}
    scores: dict[str, list[float]] = {}
    for name, manager in _named(source).items():
        if not manager.fitted:
            raise ResultsError(f"{name} has no trained agent: fit it first")
        scores[name] = [
            float(load_extra("numpy").mean(eval_function(manager, eval_budget=n_simulations, agent_id=fit)))
            if eval_function is not None
            else sum(manager.eval_agents(n_simulations, agent_id=fit)) / n_simulations
            for fit in manager.fitted
        ]
    return scores


def compare_agents(
    source: Source | Any,
    method: Literal["tukey_hsd", "permutation"] = "tukey_hsd",
    eval_function: EvalFunction | None = None,
    n_simulations: int = _SIMULATIONS,
    alpha: float = 0.05,
    B: int = _PERMUTATIONS,  # noqa: N803 - rlberry's
    seed: int | None = 0,
) -> Any:
    """Test for each pair of agents whether their mean scores differ. Agents may have different numbers of fits.

    Args:
        source: see :func:`agent_scores`.
        method: see :func:`kourou.experiments.compare_scores`.
        eval_function: see :func:`agent_scores`.
        n_simulations: see :func:`agent_scores`.
        alpha: the level of the tests.
        B: permutations of each pair, at most.
        seed: of the permutations; None: another one each time.

    Returns:
        A DataFrame with a row for each pair: ``Agent1 vs Agent2``, ``mean Agent1``, ``mean Agent2``, ``mean diff``
        (first less second), ``p-val`` (adjusted for the number of pairs), ``decisions`` (``reject`` or ``accept``
        that the means are the same), ``significance`` (stars), and with Tukey's test ``low`` and ``high``, the
        simultaneous interval of the difference.
    """
    scores = agent_scores(source, n_simulations=n_simulations, eval_function=eval_function)
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    rows = []
    for pair in compare_scores(scores, method, alpha=alpha, resamples=B, seed=seed):
        row = {
            "Agent1 vs Agent2": f"{pair.first} vs {pair.second}",
            "mean Agent1": means[pair.first],
            "mean Agent2": means[pair.second],
            "mean diff": -pair.difference,
            "p-val": pair.p_value,
            "decisions": "reject" if pair.significant else "accept",
            "significance": _stars(pair.p_value),
        }
        if pair.low is not None and pair.high is not None:
            row |= {"low": -pair.high, "high": -pair.low}
        rows.append(row)
    return load_extra("pandas").DataFrame(rows)


def summarize_agents(
    source: Source, *, n_simulations: int = _SIMULATIONS, confidence: float = 0.95, seed: int = 0
) -> tuple[Any, Any]:
    """What Agarwal et al. (2021) recommend to report of a few runs.

    Args:
        source: managers, or their folders.
        n_simulations: evaluations of each fit.
        confidence: of the stratified bootstrap intervals.
        seed: of the bootstrap.

    Returns:
        Two DataFrames: for each agent ``iqm``, ``low``, ``high``, ``mean`` and ``n_fit``; for each ordered pair the
        ``probability`` that a fit of ``better`` scores more than one of ``worse``, with ``low`` and ``high``.
    """
    pandas = load_extra("pandas")
    scores = agent_scores(source, n_simulations=n_simulations)
    rows, pairs = [], []
    for name, values in scores.items():
        found = bootstrap_interval(values, confidence=confidence, seed=seed)
        mean = sum(values) / len(values)
        rows.append((name, found.estimate, found.low, found.high, mean, len(values)))
    for first, second in itertools.permutations(scores, 2):
        found = improvement_interval(scores[first], scores[second], confidence=confidence, seed=seed)
        pairs.append((first, second, found.estimate, found.low, found.high))
    summary = pandas.DataFrame(rows, columns=["agent", "iqm", "low", "high", "mean", "n_fit"]).set_index("agent")
    return summary, pandas.DataFrame(pairs, columns=["better", "worse", "probability", "low", "high"])


def _named(source: Source) -> dict[str, ExperimentManager]:
    managers = managers_in(source)
    return dict(zip(distinct(manager.agent_name for manager in managers), managers, strict=True))


def _stars(p_value: float) -> str:
    return next((stars for limit, stars in ((0.001, "***"), (0.01, "**"), (0.05, "*")) if p_value < limit), "")
