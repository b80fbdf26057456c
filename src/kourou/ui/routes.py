"""The URLs: pages, which are all one file, and behind ``/api`` what they show, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import getpass
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from kourou import errors
from kourou.experiments.journal.run_folder import STDERR_FILE, STDOUT_FILE
from kourou.experiments.journal.sweep_folder import choose_runs, read_sweep
from kourou.runtime.diagnosis.doctor import examine
from kourou.runtime.files.growing_file import tail
from kourou.runtime.files.log_file import LogFile
from kourou.runtime.files.run_folder import EVENTS_FILE
from kourou.runtime.metrics.rows import METRICS_FILE
from kourou.runtime.model.records import NodeRecord
from kourou.runtime.monitoring.found_run import FoundRun
from kourou.runtime.monitoring.node_choice import choose_nodes, choose_running
from kourou.runtime.monitoring.remote_run import RemoteRun
from kourou.runtime.monitoring.stacks import stacks_of
from kourou.runtime.output.node_logs import MERGED_LOG
from kourou.ui.access import Access
from kourou.ui.history import curves_page
from kourou.ui.lists import Listed
from kourou.ui.live_runs import LiveRuns, encoded
from kourou.ui.sweep_page import results_page, sweep_page

_STATIC = Path(__file__).with_name("static")
_POLL_S = 0.5
_EVENTS = "text/event-stream"
_END = b"event: end\ndata: {}\n\n"
_LINES = 400
_MOST_EXITS = 20
_MOST_MADE = 16
_RUNS = 300
_MOST_LINES = 5000
_TAIL_BYTES = 1 << 18


def make_app(listed: Listed, *, token: str, host: str = "127.0.0.1") -> Starlette:
    """The dashboard as an ASGI application.

    Args:
        listed: the runs and sweeps that it shows.
        token: what has to be shown.
        host: where it listens.
    """
    pages = _Pages(listed)
    api = {
        "runs": pages.lists,
        "runs/{run}": pages.run,
        "runs/{run}/events": pages.run_events,
        "runs/{run}/lives": pages.lives,
        "runs/{run}/curves": pages.curves,
        "runs/{run}/doctor": pages.doctor,
        "runs/{run}/logs": pages.logs,
        "runs/{run}/logs/events": pages.log_events,
        "runs/{run}/nodes/{node:path}": pages.node,
        "sweeps/{sweep:path}": pages.sweep,
        "results/{sweep:path}": pages.results,
        "sweep-logs/{sweep:path}": pages.sweep_logs,
    }
    actions = {"stop": pages.stop, "restart": pages.restart, "stacks": pages.stacks}
    return Starlette(
        routes=[
            *(Route(path, pages.index) for path in ("/", "/runs/{run}", "/sweeps/{sweep:path}")),
            *(Route(f"/api/{path}", endpoint) for path, endpoint in api.items()),
            *(Route(f"/api/runs/{{run}}/{name}", does, methods=["POST"]) for name, does in actions.items()),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(Access, token=token, host=host)],
        exception_handlers={errors.KourouError: _failed, OSError: _failed},
        lifespan=lambda _: pages.live_runs.run(),
    )


async def _failed(_: Request, error: Exception) -> Response:
    """What went wrong, in the words of the command line."""
    code = 404 if isinstance(error, errors.NotFound) else 409
    return _json({"error": str(error)}, code)


def _json(data: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = data if isinstance(data, bytes) else encoded(data)
    return Response(body, code, headers, media_type="application/json")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else default


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"  # JSON has no line ends of its own


class _Pages:
    """What the URLs answer."""

    def __init__(self, listed: Listed) -> None:
        self._listed = listed
        self.live_runs = LiveRuns()
        self._made: dict[str, tuple[str, bytes]] = {}

    def index(self, _: Request) -> Response:
        """The one file of all pages."""
        return FileResponse(_STATIC / "index.html")

    def lists(self, request: Request) -> Response:
        """Runs, the newest of those whose names have a text, and sweeps."""
        text, most = request.query_params.get("text", ""), _number(request, "most", _RUNS)
        runs, more = self._listed.runs(text, most)
        return _json(
            {
                "runs": runs,
                "more": more,
                "sweeps": self._listed.sweeps(),
                "runs_folder": str(self._listed.runs_folder),
                "sweeps_folder": str(self._listed.sweeps_folder),
            }
        )

    def _run(self, request: Request) -> FoundRun:
        return self._listed.run(request.path_params["run"])

    async def run(self, request: Request) -> Response:
        """A run as it is."""
        return _json(await self.live_runs.page(await run_in_threadpool(self._run, request)))

    async def run_events(self, request: Request) -> Response:
        """The same whenever it changes."""
        found = await run_in_threadpool(self._run, request)

        async def events() -> AsyncIterator[bytes]:
            async for page in self.live_runs.pages(found):
                yield _event(page)
            yield _END

        return StreamingResponse(events(), media_type=_EVENTS)

    async def lives(self, request: Request) -> Response:
        """Starts, exits and restarts."""
        found = await run_in_threadpool(self._run, request)
        page = await self.live_runs.lives(found)
        return await run_in_threadpool(self._unless_known, request, found.path / EVENTS_FILE, page)

    def curves(self, request: Request) -> Response:
        """What its nodes logged."""
        found = self._run(request)
        file = Path(found.info.metrics_dir or found.path, METRICS_FILE)
        return self._unless_known(request, file, lambda: curves_page(found))

    def _unless_known(self, request: Request, file: Path, make: Callable[[], Any]) -> Response:
        """What is made of a file, once as long as it does not change; who has that already is told so."""
        try:
            stat = file.stat()
            mark = f'"{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}"'
        except OSError:
            mark = '"nothing"'
        if request.headers.get("if-none-match") == mark:
            return Response(status_code=304)
        made_of, body = self._made.get(request.url.path, ("", b""))
        if made_of != mark:
            body = encoded(make())
            self._made = dict([*self._made.items(), (request.url.path, (mark, body))][-_MOST_MADE:])
        return _json(body, headers={"etag": mark, "cache-control": "no-cache"})

    def doctor(self, request: Request) -> Response:
        """Why it does not go on, or how it ended."""
        return _json(examine(self._run(request)).to_dict())

    def node(self, request: Request) -> Response:
        """What the page of its run has no room for: how a node was planned, and how it has ended so far."""
        found, name = self._run(request), request.path_params["node"]

        def make() -> dict[str, Any]:
            plan = next((node for node in found.plan()["nodes"] if node["name"] == name), None)
            if plan is None:
                raise errors.NotFound(f"run {found.run_id} has no node {name!r}")
            exits = [event for event in found.events() if event["event"] == "exit" and event["node"] == name]
            return {"plan": plan, "exits": exits[-_MOST_EXITS:]}

        return self._unless_known(request, found.path / EVENTS_FILE, make)

    def _log(self, request: Request) -> LogFile:
        """The end of what the nodes printed, or some of them."""
        found, words = self._run(request), request.query_params.getlist("node")
        names = [node["name"] for node in found.plan()["nodes"]]
        wanted = {name for word in words for name in choose_nodes(names, word)}
        log = LogFile(found.path / MERGED_LOG, lambda line: not wanted or line.node in wanted)
        log.skip_to_last(min(_number(request, "lines", _LINES), _MOST_LINES))
        return log

    def logs(self, request: Request) -> Response:
        """What nodes printed."""
        return _json([dataclasses.asdict(line) for line in self._log(request).read()])

    async def log_events(self, request: Request) -> Response:
        """The same, and what is added to it."""
        found = await run_in_threadpool(self._run, request)
        log = await run_in_threadpool(self._log, request)

        def read() -> tuple[bool, bytes]:
            live = not found.state.over  # asked first, so that nothing written before the end is missed
            return live, encoded([dataclasses.asdict(line) for line in log.read()])

        async def events() -> AsyncIterator[bytes]:
            live = True
            while live:
                live, lines = await run_in_threadpool(read)
                yield _event(lines)
                await asyncio.sleep(_POLL_S)
            yield _END

        return StreamingResponse(events(), media_type=_EVENTS)

    def stop(self, request: Request) -> Response:
        """Ask the run to end."""
        with RemoteRun(self._run(request)) as remote:
            remote.request_stop(f"kourou ui, by {getpass.getuser()}")
        return _json({"asked": True})

    def restart(self, request: Request) -> Response:
        """Ask for nodes to be ended and started again."""
        with self._asked(request) as (remote, names, records):
            remote.request_restarts(names, records, f"kourou ui, by {getpass.getuser()}")
            return _json({"asked": names})

    def stacks(self, request: Request) -> Response:
        """Where the threads of a node are. It is a POST: a node of this host gets a signal for that."""
        with self._asked(request) as (remote, names, records):
            return _json({"stacks": stacks_of(remote, names[0], records)})

    @contextlib.contextmanager
    def _asked(self, request: Request) -> Iterator[tuple[RemoteRun, list[str], dict[str, NodeRecord]]]:
        """A live run, the nodes that are meant, and all of them."""
        with RemoteRun(self._run(request)) as remote:
            records = {node.name: node for node in remote.status().nodes}
            yield remote, choose_running(records, request.query_params.get("node", "")), records

    def _sweep(self, request: Request) -> Path:
        return self._listed.sweep(request.path_params["sweep"])

    def sweep(self, request: Request) -> Response:
        """A sweep and its runs."""
        return _json(sweep_page(self._sweep(request)))

    def results(self, request: Request) -> Response:
        """What they measured."""
        return _json(results_page(self._sweep(request)))

    def sweep_logs(self, request: Request) -> Response:
        """What a run of a sweep printed last."""
        word = request.query_params.get("run", "")

        [record] = choose_runs(read_sweep(self._sweep(request)).records, [word])[:1]
        ends = {name: tail(Path(record.folder, name), _TAIL_BYTES) for name in (STDOUT_FILE, STDERR_FILE)}
        return _json({name: end.decode(errors="replace") for name, end in ends.items()})
