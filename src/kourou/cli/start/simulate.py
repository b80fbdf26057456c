"""``kourou simulate``."""

from __future__ import annotations

import json

import typer

from kourou.cli.start.loading import load_program
from kourou.cli.terminal.formats import duration
from kourou.cli.terminal.output import FAILED, print_text, tell
from kourou.runtime.plan.compile import compile_program
from kourou.runtime.plan.launch_type import LaunchType
from kourou.runtime.simulation.faults import Faults
from kourou.runtime.simulation.scaled_plan import enlarged, simulated_hosts
from kourou.runtime.simulation.simulation import Report, simulate


def simulate_program(  # noqa: PLR0913 - the options of a command
    target: str,
    words: list[str],
    *,
    nodes: int | None,
    hosts: int,
    faults: str,
    hours: float,
    seed: int,
    seeds: int,
    as_json: bool,
) -> None:
    """Simulate a program's run with each of so many seeds, and say what happened."""
    loaded = load_program(target, words, command="simulate")
    given = {name: loaded.launch_kwargs[name] for name in ("local_resources", "setup") if name in loaded.launch_kwargs}
    stop = loaded.launch_kwargs.get("stop_timeline")
    plan = compile_program(loaded.program, LaunchType.SSH, hosts=simulated_hosts(hosts), stop=stop, **given)
    plan = enlarged(plan, nodes or len(plan.nodes))
    found = Faults.parse(faults)
    for each in range(seed, seed + seeds):
        report = simulate(plan, seed=each, faults=found, duration_s=hours * 3600)
        if as_json:
            print_text(json.dumps(report.to_dict()))
        else:
            _show(report)
        if report.broken:
            tell(f"what must hold does not, {report.broken}: kourou simulate {target} … --seed {each} shows it again")
            raise typer.Exit(FAILED)


def _show(report: Report) -> None:
    sizes = f"{report.nodes} nodes on {report.hosts} hosts"
    done = (
        f"{report.events} events, {report.instructions} instructions, at most {report.most_instructions} for one event"
    )
    cost = f"{report.event_us:.0f} us of real time for each event, {report.wall_s:.1f} s in all"
    ready = "never" if report.all_ready_s is None else f"after {report.all_ready_s:.1f} s"
    lines = [
        f"{sizes}, seed {report.seed}, {duration(report.ended_s)} of simulated time",
        f"  all READY: {ready}",
        f"  the end: {report.stop_reason}" + (f"; {report.stop_s:.1f} s until all had ended" if report.stop_s else ""),
        f"  {done}; {report.messages} messages",
        f"  {cost}",
        *(f"  {count:>8}  {what}" for what, count in report.decisions.items()),
    ]
    print_text("\n".join(lines))
