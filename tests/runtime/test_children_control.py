"""The control plane of a node's children: one that does not go on holds up no other."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from multiprocessing.connection import Client
from typing import Any, cast

import pytest

from kourou.runtime.context.children_control import ChildServer, SharedControl
from kourou.runtime.context.context import ControlPlane
from polling import WAIT_S


class Control:
    def members(self, label: str) -> list[str]:
        return [f"{label}/0"]


@pytest.fixture
def server() -> Iterator[ChildServer]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        serving = ChildServer(cast("ControlPlane", Control()), folder, threading.Event())
        yield serving
        serving.close()


def asked(server: ChildServer) -> object:
    """What a child gets to hear, in time."""
    shared = SharedControl(cast("ControlPlane", Control()), server)
    make, arguments = cast("tuple[Any, Any]", shared.__reduce__())
    answer: Future[object] = Future()
    threading.Thread(target=lambda: answer.set_result(make(*arguments).members("actor")), daemon=True).start()
    return answer.result(WAIT_S)


def test_a_child_that_is_halted_in_its_handshake_holds_up_no_other(server: ChildServer) -> None:
    address, _ = server.open()
    with Client(address, "AF_UNIX"):
        assert asked(server) == ["actor/0"]
        # and the node's end does not wait for it either
        closing = threading.Thread(target=server.close, daemon=True)
        closing.start()
        closing.join(WAIT_S)
        assert not closing.is_alive()


def test_one_that_could_not_start_its_thread_is_opened_when_it_can(
    server: ChildServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="cannot start the thread kourou-"):
            server.open()
    assert asked(server) == ["actor/0"]


def test_a_fork_waits_for_nothing_that_another_thread_held(
    server: ChildServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that was forked while another thread opened it
    with server._lock, monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: -1)
        closing = threading.Thread(target=server.close, daemon=True)
        closing.start()
        closing.join(WAIT_S)
        assert not closing.is_alive()
