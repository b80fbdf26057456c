"""``kourou metrics``: a run's numbers for Prometheus, once or over HTTP; or for an OpenTelemetry collector."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from kourou import errors
from kourou.cli.terminal.output import print_text, tell
from kourou.runtime.files.run_folder import TOKEN_FILE
from kourou.runtime.metrics.families import Family
from kourou.runtime.metrics.otel import MetricSender
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.numbers import NodeCalls, families
from kourou.runtime.monitoring.prometheus import CONTENT_TYPE, exposition
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.monitoring.sampling import RunSample, Sampler
from kourou.runtime.node_process.metering import ask_methods

_ANSWER_S = 1.0
_EVERY_S = 10.0
_POLL_S = 0.2


def serve_metrics(found: FoundRun, port: int | None, collector: str | None) -> None:
    """Print the numbers, or serve or send them until the run ends.

    Args:
        found: the run.
        port: to serve them at; None: do not.
        collector: the base of an OTLP/HTTP address that they are sent to; empty: OpenTelemetry's environment variables
            say which; None: nowhere.

    Raises:
        RunUnavailable: the run does not run any more.
        LaunchError: the port is taken.
        MissingExtra: OpenTelemetry's exporter is not installed.
    """
    with RemoteRun(found) as run, Sampler(found) as sampler:
        if collector is not None:
            _send(run, sampler, collector)
            return
        if port is None:
            print_text(_scraped(run, sampler).rstrip("\n"))
            return
        try:
            server = MetricsServer(port, found.token, lambda: _scraped(run, sampler))
        except OSError as error:
            raise errors.LaunchError(f"cannot listen on port {port}: {error}") from error
        tell(f"http://127.0.0.1:{server.server_port}/metrics, with the bearer token of {found.path / TOKEN_FILE}")
        with server:
            server.timeout = _ANSWER_S
            while found.state.live:
                server.handle_request()


def _send(run: RemoteRun, sampler: Sampler, collector: str) -> None:
    """Every ten seconds; a collector that takes nothing for once may do so later."""
    found = run.found
    sender = MetricSender(found.run_id, found.info.program, since=found.info.started_at, collector=collector)
    failing = False
    try:
        while found.state.live:
            try:
                sender.send(_numbers(run, sampler))
                failing = False
            except errors.ServerUnavailable as error:
                if not failing and found.state.live:
                    tell(f"{error}; it is tried again every {_EVERY_S:g} s")
                failing = True
            _wait(found)
    finally:
        sender.close()


def _wait(found: FoundRun) -> None:
    """For the next time, or the end of the run."""
    until = time.monotonic() + _EVERY_S
    while time.monotonic() < until and found.state.live:
        time.sleep(_POLL_S)


class MetricsServer(HTTPServer):
    """Answers scrapes of this host that show the run's token, one at a time."""

    def __init__(self, port: int, token: str, scrape: Callable[[], str]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.token = token
        self.scrape = scrape


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer  # pyright: ignore[reportIncompatibleVariableOverride] - what makes it is one
    timeout = 5.0  # for who connects and says nothing

    def do_GET(self) -> None:
        """A scrape."""
        shown = self.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(shown, f"Bearer {self.server.token}".encode()):
            self._answer(401, "the run's token is missing: Authorization: Bearer TOKEN\n")
        elif self.path != "/metrics":
            self._answer(404, "there is /metrics only\n")
        else:
            try:
                status, text = 200, self.server.scrape()
            except (errors.KourouError, OSError) as error:  # the run has just ended, say
                status, text = 503, f"{error}\n"
            self._answer(status, text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: whoever scrapes knows."""

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _scraped(run: RemoteRun, sampler: Sampler) -> str:
    return exposition(_numbers(run, sampler))


def _numbers(run: RemoteRun, sampler: Sampler) -> list[Family]:
    sample = sampler.sample()
    return families(sample, _calls(run, sample))


def _calls(run: RemoteRun, sample: RunSample) -> NodeCalls:
    serving = [node.name for node in sample.status.nodes if node.serves]
    return run.ask_all(serving, ask_methods, _ANSWER_S)[0]
