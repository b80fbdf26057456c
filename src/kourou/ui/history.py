"""What has happened to a run so far, as JSON: its nodes' lives, with causes, and what they logged, as curves."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kourou.runtime.files.run_folder import BEGINS_AGAIN
from kourou.runtime.metrics.reading import Curve, curves_of, read_config, read_metrics
from kourou.runtime.monitoring.found_run import FoundRun

_MOST_POINTS = 800  # of a curve: more than a screen is wide has no room
_MOST_LIVES = 5000


class Lives:
    """The attempts of each node, from start to end, and what happened to the run as a whole.

    Args:
        events: as :meth:`~kourou.runtime.monitoring.found_run.FoundRun.events` gives them.
    """

    def __init__(self, events: Iterable[Mapping[str, Any]] = ()) -> None:
        self._lives: dict[tuple[str, int], dict[str, Any]] = {}
        self._marks: list[dict[str, Any]] = []
        self.add(events)

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """What has happened since."""
        for event in events:
            if event["event"] == BEGINS_AGAIN:
                self._lives.clear()
                self._marks.clear()
            if event["event"] == "node" and event["attempt"]:
                life = self._lives.setdefault((event["name"], event["attempt"]), _born(event))
                life["state"] = event["state"]
                if event["state"] == "READY" and life["ready_at"] is None:
                    life["ready_at"] = event["time"]
            elif event["event"] == "exit":
                born = _born({**event, "name": event["node"]})
                life = self._lives.setdefault((event["node"], event["attempt"]), born)
                life.update(ended_at=event["time"], state=event["state"], cause=event["cause"], host=event["host"])
            elif event["event"] != "node":
                self._marks.append({name: value for name, value in event.items() if value is not None})

    def page(self) -> dict[str, Any]:
        """The latest of them."""
        left_out = max(0, len(self._lives) - _MOST_LIVES)
        return {
            "lives": [dict(life) for life in itertools.islice(self._lives.values(), left_out, None)],
            "left_out": left_out,
            "marks": list(self._marks),
        }


def _born(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "node": event["name"],
        "attempt": event["attempt"],
        "started_at": event["time"],
        "ready_at": None,
        "ended_at": None,
        "state": event["state"],
        "cause": "",
    }


def curves_page(found: FoundRun) -> dict[str, Any]:
    """What the nodes of a run logged: settings, and a curve for each metric and node, with fewer points than there are.

    Raises:
        ResultsError: a line of the file is no JSON.
    """
    folder = found.info.metrics_dir or found.path
    try:
        config, rows = read_config(folder), read_metrics(folder)
    except FileNotFoundError:
        return {"config": {}, "curves": []}
    return {"config": config, "curves": [thinned(curve)._asdict() for curve in curves_of(rows)]}


def thinned(curve: Curve, most: int = _MOST_POINTS) -> Curve:
    """The curve with about as many points: of each stretch its lowest and its highest, so that no peak is lost."""
    count = len(curve.steps)
    if count <= most:
        return curve
    bounds = [count * number // (most // 2) for number in range(most // 2 + 1)]
    extremes = {place for ends in itertools.pairwise(bounds) for place in _extremes(curve.values, *ends)}
    kept = sorted({0, count - 1} | extremes)
    return curve._replace(steps=[curve.steps[i] for i in kept], values=[curve.values[i] for i in kept])


def _extremes(values: Sequence[float], begin: int, end: int) -> tuple[int, int]:
    places = range(begin, end)
    return min(places, key=values.__getitem__), max(places, key=values.__getitem__)
