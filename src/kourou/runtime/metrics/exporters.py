"""Where metrics go beside the run's folder: TensorBoard, Weights & Biases, MLflow, OpenTelemetry.

Each is told of the rows of the run's file, in order; none is asked for anything by the nodes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kourou import errors
from kourou.extras import load_extra
from kourou.runtime.metrics.event_files import EventWriter
from kourou.runtime.metrics.families import LOGGED, Family, Point, of_node
from kourou.runtime.metrics.otel import MetricSender

EVENTS_FOLDER = "tensorboard"
"""TensorBoard's files, in a run's folder."""


class Exporter(Protocol):
    """Takes the metrics of one run; called from one thread."""

    def config(self, settings: Mapping[str, Any]) -> None:
        """Settings of the run; later ones count."""

    def metrics(self, step: float, time: float, node: str, numbers: Mapping[str, float]) -> None:
        """What a node (or nobody in particular: an empty name) measured at a step, at that Unix time."""

    def image(self, step: float, time: float, node: str, name: str, file: Path) -> None:
        """A picture: a PNG file."""

    def flush(self) -> None:
        """There may be no more for some time: send on what was told."""

    def close(self) -> None:
        """There is no more."""


class TensorBoard(Exporter):
    """Event files in ``tensorboard/NODE`` of the folder, each node being a run of TensorBoard's."""

    def __init__(self, folder: Path, name: str, program: str) -> None:
        del name, program
        load_extra("tensorboard")
        self._folder = folder / EVENTS_FOLDER
        self._writers: dict[str, EventWriter] = {}

    def config(self, settings: Mapping[str, Any]) -> None:
        """TensorBoard's event files have no place for them that all versions read."""

    def metrics(self, step: float, time: float, node: str, numbers: Mapping[str, float]) -> None:
        self._writer(node).add_scalars(numbers, int(step), time)

    def image(self, step: float, time: float, node: str, name: str, file: Path) -> None:
        self._writer(node).add_image(name, file.read_bytes(), int(step), time)

    def close(self) -> None:
        """See :class:`Exporter`; all is written already."""

    def _writer(self, node: str) -> EventWriter:
        if node not in self._writers:
            self._writers[node] = EventWriter(self._folder.joinpath(*(part for part in node.split("/") if part)))
        return self._writers[node]


class WandB(Exporter):
    """A run of Weights & Biases, offline unless WANDB_API_KEY or WANDB_MODE is set. Each node counts its own steps."""

    def __init__(self, folder: Path, name: str, program: str) -> None:
        self._alone = "wandb" not in sys.modules  # else the launcher's script may have runs of its own
        self._wandb: Any = load_extra("wandb")
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", program),
            name=name,
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline"),
            reinit="create_new",
            settings=self._wandb.Settings(console="off", silent=True),
        )
        self._counted: set[str] = set()

    def config(self, settings: Mapping[str, Any]) -> None:
        self._run.config.update(dict(settings), allow_val_change=True)

    def metrics(self, step: float, time: float, node: str, numbers: Mapping[str, float]) -> None:
        self._log(step, node, {**numbers, "time": time})

    def image(self, step: float, time: float, node: str, name: str, file: Path) -> None:
        self._log(step, node, {name: self._wandb.Image(str(file)), "time": time})

    def close(self) -> None:
        self._run.finish()
        if self._alone:
            self._wandb.teardown()

    def _log(self, step: float, node: str, values: Mapping[str, Any]) -> None:
        before = f"{node}/" if node else ""
        if node not in self._counted:
            self._counted.add(node)
            self._run.define_metric(f"{before}*", step_metric=f"{before}step")
        self._run.log({f"{before}step": step, **{f"{before}{name}": value for name, value in values.items()}})


class MLflow(Exporter):
    """A run of MLflow, at MLFLOW_TRACKING_URI, else in ``mlflow.db`` and, its images, ``mlflow`` of the folder."""

    def __init__(self, folder: Path, name: str, program: str) -> None:
        there = os.environ.get("MLFLOW_TRACKING_URI")
        uri = there or self._database(folder)
        images = None if there else (folder / "mlflow").as_uri()  # MLflow's default is the working folder
        self._client: Any = load_extra("mlflow").MlflowClient(tracking_uri=uri)
        wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME", program)
        known = self._client.get_experiment_by_name(wanted)
        experiment = known.experiment_id if known else self._client.create_experiment(wanted, images)
        self._run = self._client.create_run(experiment, run_name=name).info.run_id

    @staticmethod
    def _database(folder: Path) -> str:
        """A database in the folder. Its tables take seconds to make, and MLflow opens none that lacks some of them."""
        made, begun = folder / "mlflow.db", folder / "mlflow.db.part"
        if not made.exists():
            for left in folder.glob(f"{begun.name}*"):  # by who was killed meanwhile
                left.unlink()
            load_extra("mlflow").MlflowClient(tracking_uri=f"sqlite:///{begun}").search_experiments(max_results=1)
            begun.replace(made)
        return f"sqlite:///{made}"

    def config(self, settings: Mapping[str, Any]) -> None:
        """See :class:`Exporter`. As tags, since MLflow refuses a parameter that changes."""
        for name, value in settings.items():
            self._client.set_tag(self._run, _plain(name), str(value)[:_LONGEST_TAG])

    def metrics(self, step: float, time: float, node: str, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            at = int(time * 1000)
            self._client.log_metric(self._run, _plain(f"{node}/{name}" if node else name), value, at, int(step))

    def image(self, step: float, time: float, node: str, name: str, file: Path) -> None:
        del step, time, name
        self._client.log_artifact(self._run, str(file), f"images/{_plain(node)}")

    def close(self) -> None:
        self._client.set_terminated(self._run)


class OpenTelemetry(Exporter):
    """Points of ``kourou.logged`` for a collector, each with the time at which it was logged."""

    def __init__(self, folder: Path, name: str, program: str) -> None:
        del folder
        self._sender = MetricSender(name, program)
        self._points: list[Point] = []

    def metrics(self, step: float, time: float, node: str, numbers: Mapping[str, float]) -> None:
        """See :class:`Exporter`. Steps are left out: each would be an attribute of its own."""
        del step
        self._points += [Point(of_node(node, metric=name), value, time) for name, value in numbers.items()]
        if len(self._points) >= _MOST_POINTS:
            self.flush()

    def flush(self) -> None:
        points, self._points = self._points, []
        if points:
            self._sender.send([Family(LOGGED, "gauge", "", "What nodes log with lp.log.", points)])

    def close(self) -> None:
        self.flush()
        self._sender.close()


def _plain(name: str) -> str:
    """A name of the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /]", "_", name)[:_LONGEST_NAME]


_LONGEST_NAME = 250
_LONGEST_TAG = 5000
_MOST_POINTS = 1000

EXPORTERS: Mapping[str, Callable[[Path, str, str], Exporter]] = {
    "mlflow": MLflow,
    "otel": OpenTelemetry,
    "tensorboard": TensorBoard,
    "wandb": WandB,
}
"""By their names: what makes one from the run's folder, its name and its program's."""

_PACKAGES = {"otel": "opentelemetry-exporter-otlp-proto-http"}
"""Name → the package that it needs, where it is not called like that."""


def check_exporters(names: Sequence[str]) -> None:
    """Before anything starts.

    Raises:
        PlanError: there is no such exporter.
        MissingExtra: its package is not installed.
    """
    for name in names:
        if name not in EXPORTERS:
            raise errors.PlanError(f"metrics can go to {', '.join(EXPORTERS)}, not to {name!r}")
        package = _PACKAGES.get(name, name)
        if not _is_installed(package.replace("-", ".")):
            raise errors.MissingExtra(package, name)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor what it is in
        return False
