"""How a run's end is told to a webhook, whatever that is and whatever it answers."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import Any

import pytest

from kourou import errors
from kourou.cli.start.notify import check_url, notifying


class Hook:
    """Answers one request with given bytes."""

    def __init__(self, answer: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/hook"
        self._answer = answer
        self._told = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener, self._listener.accept()[0] as caller:
            while not self._told.endswith(b"}"):
                self._told += caller.recv(1 << 16)
            caller.sendall(self._answer)

    def told(self) -> dict[str, Any]:
        self._thread.join()
        found: dict[str, Any] = json.loads(self._told.rpartition(b"\r\n")[2])
        return found


@pytest.mark.parametrize(
    ("end", "state", "cause"),
    [
        (KeyboardInterrupt(), "interrupted", ""),
        (errors.ProgramFailed("a/0 failed\nits log"), "failed", "a/0 failed"),
        (errors.LaunchError("no hosts"), "failed", "no hosts"),
    ],
)
def test_every_end_has_its_name(end: BaseException, state: str, cause: str) -> None:
    hook = Hook(b"HTTP/1.0 200 OK\r\n\r\n")

    with suppress(type(end)), notifying(hook.url, run="r", program="p"):
        raise end

    told = hook.told()
    assert (told["state"], told["cause"]) == (state, cause)


def test_an_answer_that_is_no_http_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    hook = Hook(b"nonsense\r\n\r\n")

    with notifying(hook.url, run="r", program="p"):
        pass

    assert hook.told()["state"] == "finished"
    assert "127.0.0.1 was not notified: nonsense" in capfd.readouterr().err


@pytest.mark.parametrize("url", ["file:///etc", "http://", "http://h:port/", "http://h:99999/", "http://h/a b"])
def test_what_is_no_url_is_told_before_anything_starts(url: str) -> None:
    with pytest.raises(errors.PlanError, match="--notify takes an http:// or https:// URL"):
        check_url(url)
