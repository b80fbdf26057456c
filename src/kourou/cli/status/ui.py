"""``kourou ui``."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import webbrowser
from pathlib import Path

from kourou.cli.terminal.output import tell
from kourou.extras import load_extra
from kourou.runtime.monitoring.run_search import choose_run
from kourou.ui.lists import Listed


def serve_dashboard(
    run: str | None, runs_dir: Path | None, sweeps: Path, *, host: str, port: int | None, browser: bool
) -> None:
    """Serve the dashboard until Ctrl-C; the URL is told on standard error.

    Raises:
        MissingExtra: Starlette or uvicorn is not installed.
        NotFound: there is no such run.
        LaunchError: the port is taken.
    """
    for module in ("starlette", "uvicorn"):
        load_extra(module)
    from kourou.ui.routes import make_app  # noqa: PLC0415 - needs the extra
    from kourou.ui.serving import bound, serve  # noqa: PLC0415 - likewise

    path = f"/runs/{choose_run(run, runs_dir).run_id}" if run is not None else "/"
    token = secrets.token_urlsafe(32)
    listening = bound(host, port)
    number = listening.getsockname()[1]
    url = f"http://{_shown(host)}:{number}{path}?token={token}"
    tell(f"the dashboard is at {url}")
    if _is_loopback(host):
        tell(f"Ctrl-C ends it; from another machine: ssh -L {number}:127.0.0.1:{number} {socket.gethostname()}")
    else:
        tell(f"whoever reads the network between you and {host} sees its token: there is no TLS; Ctrl-C ends it")
    if browser:
        webbrowser.open(url)
    with listening:
        serve(make_app(Listed(runs_dir, sweeps), token=token, host=host), listening)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - what the user asked for
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
