"""``kourou run --notify URL``: telling a webhook how a run has ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from kourou import errors
from kourou.cli.terminal.output import tell

_ANSWER_S = 10.0


def check_url(url: str) -> None:
    """Before anything starts.

    Raises:
        PlanError: it is no URL of a webhook.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[^!-~]", url):
        raise errors.PlanError(f"--notify takes an http:// or https:// URL, got {url!r}")


@contextlib.contextmanager
def notifying(url: str | None, *, run: str, program: str) -> Iterator[None]:
    """Tell ``url`` how the body, which waits for a run, has ended; None: tell nobody."""
    begun = time.monotonic()
    state, cause = "finished", ""
    try:
        yield
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    except BaseException as failure:
        state, cause = "failed", str(failure).partition("\n")[0]
        raise
    finally:
        if url is not None:
            took_s = round(time.monotonic() - begun, 3)
            text = f"kourou: {run} {state} after {took_s:.0f} s{f': {cause}' if cause else ''}"
            told = {"run": run, "program": program, "state": state, "took_s": took_s, "cause": cause, "text": text}
            _post(url, told)


def _post(url: str, told: dict[str, Any]) -> None:
    """Post a JSON object, whose ``text`` chat services show. What goes wrong is told, and changes nothing."""
    body, headers = json.dumps(told).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - see ``check_url``
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S):  # noqa: S310 - likewise
            pass
    except (OSError, ValueError, http.client.HTTPException) as error:
        host = urllib.parse.urlsplit(url).hostname  # the rest of it may be a secret
        tell(f"{host} was not notified: {error}")
