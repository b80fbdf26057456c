"""``kourou trace``."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from kourou.cli.terminal.output import print_text, tell
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.node_choice import choose_nodes
from kourou.runtime.monitoring.otel_spans import send_spans
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.monitoring.trace import lives_of, record, trace_events

_FILE = "trace.json"


def trace_run(
    found: FoundRun, words: Sequence[str], *, seconds: float, output: Path | None, collector: str | None
) -> None:
    """Let the nodes of a run record what they do, and write it as one trace; or send it to a collector.

    Raises:
        RunUnavailable: the run does not run any more.
        NotFound: it has no such nodes.
    """
    with RemoteRun(found) as run:
        nodes = run.status().nodes
        names = [node.name for node in nodes]
        wanted = {name for word in words for name in choose_nodes(names, word)} if words else set(names)

        def pause() -> None:
            tell(f"{len(wanted)} nodes record for {seconds:g} s; Ctrl-C ends that sooner")
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(seconds)

        traced = record(run, [node for node in nodes if node.name in wanted], pause, at_most_s=seconds)
    lost = sum(recording.lost for recording, _ in traced.recordings)
    if lost:
        tell(f"the oldest {lost:,} spans had no room: record for fewer seconds")
    if traced.silent:
        tell(f"no answer from {', '.join(traced.silent)}")
    if collector is not None:
        count = send_spans(traced, found.run_id, found.info.program, collector)
        tell(f"sent {count:,} spans")
        return
    events = trace_events(traced, [life for life in lives_of(found) if life.node in wanted])
    file = output or found.path / _FILE
    file.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), encoding="utf-8")
    tell("open it at https://ui.perfetto.dev, which shows it in your browser and sends it nowhere")
    print_text(str(file))
