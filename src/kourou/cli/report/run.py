"""A run's report."""

from __future__ import annotations

import base64
import contextlib
import datetime
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kourou import errors
from kourou.cli.report.curves import COLORS, Line, figure
from kourou.cli.report.page import Markup, escaped, facts, folded, page, pre, section, table, word
from kourou.cli.report.timeline import lanes_of_events, timeline
from kourou.cli.status.status import sample_once
from kourou.cli.status.table import node_cells, on_hosts
from kourou.cli.terminal.formats import duration
from kourou.runtime.diagnosis.doctor import examine
from kourou.runtime.diagnosis.finding import Diagnosis, Severity
from kourou.runtime.graph.topology import Topology, Vertex
from kourou.runtime.metrics.reading import Curve, curves_of, read_config, read_images, read_metrics
from kourou.runtime.model.names import label_of
from kourou.runtime.model.records import NodeState
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.sampling import RunSample, Sampler

_TONES = {Severity.NOTE: "", Severity.WARNING: "warn", Severity.ERROR: "bad"}
_MOST_FIGURES = 60
_MOST_OWN_CURVES = 8  # of one metric; of more, those of a label have a colour in common
_MOST_CURVES = 60
_MOST_FAILURES = 20
_MOST_PICTURES = 12
_LARGEST_PICTURE_BYTES = 1 << 19


def run_page(found: FoundRun) -> str:
    """The page of a run, as it is now or as it ended."""
    with Sampler(found) as sampler:
        sample = sample_once(sampler)
    events, plan = found.events(), found.plan()
    diagnosis = examine(found)
    until = sample.status.ended_at or sample.taken_at
    lanes, stops = lanes_of_events(events, until)
    metrics = Path(found.info.metrics_dir or found.path)
    parts = [
        section("How it ended" if sample.status.state.over else "How it goes", _diagnosis(diagnosis)),
        section("Who calls whom", _graph(plan["nodes"])),
        section("Nodes", _nodes(sample), *_failures(sample)),
        section("Starts, exits, restarts", timeline(lanes, stops, sample.status.started_at, until)),
        section("Metrics", *_curves(metrics)),
        section("Pictures", _pictures(metrics)),
        section("Settings", settings(_config(metrics))),
    ]
    return page(found.run_id, _facts(found, sample), parts)


def local_time(at: float | None) -> str | None:
    """A time as people read it."""
    return None if at is None else datetime.datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def settings(config: dict[str, object]) -> Markup:
    """Settings by their names."""
    return table(("setting", "value"), config.items())


def _facts(found: FoundRun, sample: RunSample) -> Markup:
    status = sample.status
    return facts(
        {
            "state": word(status.state),
            "because": status.stop_reason,
            "program": status.program,
            "launched as": status.launch_type,
            "on": found.info.host,
            "began": local_time(status.started_at),
            "ended": local_time(status.ended_at),
            "took" if status.ended_at else "so far": duration((status.ended_at or time.time()) - status.started_at),
            "nodes": len(status.nodes),
            "command": shlex.join(found.info.argv),
            "folder": found.path,
        }
    )


def _diagnosis(diagnosis: Diagnosis) -> Markup:
    told = [f'<p class="note">{escaped(f"{diagnosis.state}: {diagnosis.summary}")}</p>']
    for finding in diagnosis.findings:
        details = "\n".join(finding.details)
        ends = f'<p class="note">ends when: {escaped(finding.ends)}</p>' if finding.ends else ""
        head = f'<p class="head">{escaped(finding.text)}</p>'
        told.append(f'<div class="finding {_TONES[finding.severity]}">{head}{pre(details).html}{ends}</div>')
    return Markup("".join(told))


def _graph(nodes: Sequence[dict[str, object]]) -> Markup:
    vertices = [
        Vertex(
            name=str(node["name"]),
            kind=str(node["kind"]),
            inputs=tuple(map(str, node["inputs"])),  # type: ignore[call-overload] # a list, as JSON has it
            is_child=node["parent"] is not None,
        )
        for node in nodes
    ]
    return Markup(f'<div class="wide">{Topology.of(vertices).to_svg()}</div>' if vertices else "")


def _nodes(sample: RunSample) -> Markup:
    live = sample.status.state.live
    figures = ("cpu %", "memory", "calls/s") if live else ()
    columns = ["node", "state", *(["host"] if on_hosts(sample) else []), "pid", "try", "up", *figures, "metrics"]
    rows = []
    for node in sample.status.nodes:
        cells = node_cells(node, sample)
        own: list[object] = [cells[name].plain for name in columns]
        own[1] = word(cells["state"].plain)
        end = node.exit.cause if node.exit is not None and node.state is not NodeState.FINISHED else ""
        rows.append([*own, end or cells["last line"].plain])
    told = table([*columns, "how it ended, or its last line"], rows, right=("pid", "try", "up", *figures))
    details = [f"{node.name} {line}" for node in sample.status.nodes for line in sample.nodes[node.name].details]
    return Markup(told.html + pre("\n".join(details)).html)


def _failures(sample: RunSample) -> Iterator[Markup]:
    failed = [node for node in sample.status.nodes if node.exit and node.exit.state is not NodeState.FINISHED]
    for place, node in enumerate(failed[:_MOST_FAILURES]):
        if node.exit is not None:
            text = node.exit.traceback or "\n".join(node.exit.last_lines)
            log = f"log: {node.exit.log_file}" if node.exit.log_file else ""
            title = f"{node.name}: {node.exit.cause} (attempt {node.exit.attempt})"
            yield folded(title, pre(text), pre(log), is_open=place == 0)


def _curves(folder: Path) -> Iterator[Markup]:
    try:
        curves = curves_of(read_metrics(folder))
    except (FileNotFoundError, errors.ResultsError):
        return
    metrics = list(dict.fromkeys(curve.metric for curve in curves))
    figures = [_figure(metric, [c for c in curves if c.metric == metric]) for metric in metrics[:_MOST_FIGURES]]
    if figures:
        yield Markup(f'<div class="plots">{"".join(one.html for one in figures)}</div>')
    if len(metrics) > _MOST_FIGURES:
        yield Markup(f'<p class="note">and {len(metrics) - _MOST_FIGURES} more: {escaped(metrics[_MOST_FIGURES:])}</p>')


def _figure(metric: str, curves: Sequence[Curve]) -> Markup:
    own = len(curves) <= _MOST_OWN_CURVES
    names = [curve.node if own else label_of(curve.node) or curve.node for curve in curves]
    colors = {name: COLORS[place % len(COLORS)] for place, name in enumerate(dict.fromkeys(names))}
    lines = [
        Line(steps=curve.steps, values=curve.values, color=colors[name])
        for name, curve in list(zip(names, curves, strict=True))[:_MOST_CURVES]
    ]
    legend = []
    for name, color in colors.items():
        mine = [curve.values[-1] for other, curve in zip(names, curves, strict=True) if other == name]
        last = f"{mine[0]:.4g}" if len(mine) == 1 else f"×{len(mine)}, {min(mine):.4g} to {max(mine):.4g}"
        legend.append((color, f"{name} {last}".strip()))
    return figure(metric, lines, legend)


def _config(folder: Path) -> dict[str, object]:
    with contextlib.suppress(FileNotFoundError, errors.ResultsError):
        return read_config(folder)
    return {}


def _pictures(folder: Path) -> Markup:
    """The latest of each name and node."""
    try:
        images = read_images(folder)
    except (FileNotFoundError, errors.ResultsError):
        return Markup("")
    drawn = []
    latest = {(image.get("node", ""), image["name"]): image for image in images}
    for (node, name), image in list(latest.items())[-_MOST_PICTURES:]:
        file = folder / image["file"]
        with contextlib.suppress(OSError):
            if file.stat().st_size <= _LARGEST_PICTURE_BYTES:
                data = base64.b64encode(file.read_bytes()).decode("ascii")
                title = escaped(f"{node} {name}, step {image.get('step', '')}".strip())
                drawn.append(
                    f'<figure><figcaption>{title}</figcaption><img alt="{title}" src="data:image/png;base64,{data}">'
                    "</figure>"
                )
    return Markup(f'<div class="pictures">{"".join(drawn)}</div>' if drawn else "")
