"""KOUROU_TRACE writes spans that trace viewers can read."""

import json

import pytest

from kourou import courier
from kourou.courier import Client, Server
from kourou.courier.core import trace


@pytest.mark.usefixtures("no_leaks")
def test_spans_of_both_sides(tmp_path, monkeypatch):
    monkeypatch.setenv(trace.VARIABLE, str(tmp_path / "a folder"))
    monkeypatch.setattr(trace, "_file", trace._TraceFile())
    with Server("n/0", token="t") as server:
        server.bind("null", lambda: None)
        client = Client(server.address, token="t", lane="local")
        client.null()
        courier.close(client)
    assert trace._file._file is not None
    trace._file._file.close()
    (path,) = (tmp_path / "a folder").iterdir()
    events = json.loads(path.read_text().rstrip(",\n") + "]")
    spans = {event["cat"]: event for event in events if event["ph"] == "X"}
    assert spans["handler"]["name"] == "null"
    assert spans["call"]["dur"] >= spans["handler"]["dur"] >= 0
    assert {event["name"] for event in events if event["ph"] == "M"} == {"thread_name"}


def test_without_the_variable_nothing_is_wrapped(monkeypatch):
    monkeypatch.delenv(trace.VARIABLE, raising=False)
    assert trace.traced("x", "call", print) is print
