"""``kourou status``."""

from __future__ import annotations

import time

from kourou.cli.status.table import status_table
from kourou.cli.terminal.live import can_be_drawn_over, watched
from kourou.cli.terminal.output import console, print_json
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.sampling import RunSample, Sampler

_RATE_WINDOW_S = 0.4  # a status that is printed once measures rates over this time
_FIRST_INTERVAL_S = 0.2  # the first table has no rates yet, so the second comes soon


def show_status(found: FoundRun, *, watch: bool, interval_s: float, as_json: bool) -> None:
    """Print the run's status once, or until the run ends."""
    with Sampler(found) as sampler:
        if watch and as_json:
            _stream(sampler, interval_s)
        elif watch:
            _watch(sampler, interval_s)
        else:
            sample = sample_once(sampler)
            if as_json:
                print_json(sample.to_dict())
            else:
                out = console()
                out.print(status_table(sample, width=out.width, fill=out.is_terminal))


def sample_once(sampler: Sampler) -> RunSample:
    """A sample with rates, if the run is live."""
    sample = sampler.sample()
    if sample.status.state.live:
        time.sleep(_RATE_WINDOW_S)
        sample = sampler.sample()
    return sample


def _stream(sampler: Sampler, interval_s: float) -> None:
    while True:
        sample = sampler.sample()
        print_json(sample.to_dict(), indent=None)
        if sample.status.state.over:
            return
        time.sleep(interval_s)


def _watch(sampler: Sampler, interval_s: float) -> None:
    out = console()
    height = out.height if can_be_drawn_over(out) else None
    pause_s = _FIRST_INTERVAL_S
    with watched(out) as show:
        while True:
            sample = sampler.sample()
            ended = sample.status.state.over
            show(status_table(sample, width=out.width, height=None if ended else height), ended)
            if ended:
                return
            time.sleep(pause_s)
            pause_s = interval_s
