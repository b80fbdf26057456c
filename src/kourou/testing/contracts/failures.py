"""Errors of methods, of arguments, of results."""

from __future__ import annotations

import pickle
import threading
from typing import Any

from kourou.courier import list_methods
from kourou.errors import (
    RemoteError,
    SerializationError,
    UnknownMethod,
)
from kourou.testing.contracts.serving import PATIENCE_S, HostileError, connected, raised
from kourou.testing.polling import until


def check_errors_keep_their_type(lane: str) -> None:
    """What is raised is what is caught, with the remote traceback, and without calling its constructor again."""
    with connected(lane) as (_, _target, client):
        before = HostileError.made
        error = raised(HostileError, client.fail)
        assert HostileError.made == before + 1
        assert RemoteError in type(error).__mro__
        assert (error.second, error.args, error.node, error.method) == (7, ("no/7",), "contract", "fail")
        assert "in fail" in error.remote_traceback
        assert error.remote_traceback.count("File ") == 1, "kourou's own frames say nothing about the handler"
        again: Any = pickle.loads(pickle.dumps(error))
        assert HostileError in type(again).__mro__
        assert (again.second, again.remote_traceback) == (7, error.remote_traceback)
        assert raised(KeyError, client.missing_key).args == ("k",)
        assert raised(FileNotFoundError, client.no_file).filename == "/x"
        assert "40 GiB" in str(raised(MemoryError, client.no_memory))
        assert raised(RemoteError, client.leave).remote_type == "SystemExit"
        assert raised(RemoteError, client.interrupt).remote_type == "KeyboardInterrupt"
        assert client.echo(1) == 1


def check_errors_pass_through_a_second_server(lane: str) -> None:
    """An error that one node got from another is an error of its class for the next caller, too."""
    with connected(lane) as (_, _target, client), connected(lane) as (front, _front_target, front_client):
        front.bind("relay", client.fail)
        error = raised(HostileError, front_client.relay)
        assert RemoteError in type(error).__mro__
        assert error.second == 7
        assert "in fail" in error.remote_traceback


def check_unknown_methods(lane: str) -> None:
    """They are attribute errors that list what there is."""
    with connected(lane) as (server, _target, client):
        error = raised(AttributeError, client.ehco)
        assert isinstance(error, UnknownMethod)
        assert not isinstance(error, RemoteError)
        assert str(error).startswith("contract: method ehco not found; did you mean echo?")
        assert "numbers" in list_methods(client)
        assert "costly" not in list_methods(client)
        server.bind("*", lambda *_args: "caught")
        assert client.anything(1) == "caught"
        server.unbind("*")


class Ender:
    """Ends the thread that unpickles it, or, with ``on_the_way``, the one that pickles it."""

    def __init__(self, kind: str, *, on_the_way: bool = False) -> None:
        self.kind = kind
        self.on_the_way = on_the_way

    def __reduce__(self) -> tuple[Any, ...]:
        code = f"raise {self.kind}('from a value')"
        if self.on_the_way:
            exec(code)  # noqa: S102 - the line above
        return exec, (code,)


def check_values_that_end_threads_end_none(lane: str) -> None:
    """SystemExit and KeyboardInterrupt from (un)pickling are errors of that one call, on either side."""
    with connected(lane) as (server, _target, client):
        server.bind("make", lambda kind, on_the_way: Ender(kind, on_the_way=on_the_way))
        asked: list[Any] = []

        def ask() -> None:  # in a thread that is not the main one, where KeyboardInterrupt may as well be Ctrl-C
            for kind in ("SystemExit", "KeyboardInterrupt", "GeneratorExit"):
                raised(SerializationError, client.echo, Ender(kind))
                raised(SerializationError, client.echo, Ender(kind, on_the_way=True))
                raised(SerializationError, client.make, kind, False)
                raised(SerializationError, client.make, kind, True)
                watched = client.futures.make(kind, False)
                watched.add_done_callback(lambda future: asked.append(future.exception()))
                asked.append(client.echo(kind))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(PATIENCE_S)
        until(lambda: len(asked) == 6, PATIENCE_S, "all were answered, callbacks included")
        assert sum(isinstance(one, SerializationError) for one in asked) == 3


def check_what_cannot_be_pickled(lane: str) -> None:
    """An argument fails where it was given; a result fails for its caller; the server lives on."""
    with connected(lane) as (_, _target, client):
        error = raised(SerializationError, client.echo, 1, {"deep": [threading.Lock()]})
        assert "args[1]['deep'][0]" in str(error)
        assert "unpicklable" in str(raised(SerializationError, client.unpicklable))
        assert client.echo(1) == 1
