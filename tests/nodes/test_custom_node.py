"""A node type of a user's own, with clients that are none of kourou's: the example in lp.Node's docstring, at work."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import kourou as lp
from kourou import courier
from kourou.errors import DeadlineExceeded, NodeExited, PlanError
from optional import pytest
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")

both = pytest.mark.parametrize("launch_type", ["local_mt", "local_mp"])


class HttpClient:
    """What a holder of the handle gets: no courier client."""

    def __init__(self, target: lp.NodeTarget, timeout_s: float) -> None:
        self._target = target
        self._timeout_s = timeout_s

    def get(self, path: str) -> Any:
        address = self._target.address(self._timeout_s)  # waits until the node is ready
        connection = http.client.HTTPConnection(address, timeout=self._timeout_s)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class HttpHandle(lp.Handle[HttpClient]):
    """A handle that travels with an option of its own."""

    def __init__(self, node: lp.Node, timeout_s: float) -> None:
        super().__init__(node)
        self._timeout_s = timeout_s

    def make_client(self, target: lp.NodeTarget) -> HttpClient:
        return HttpClient(target, self._timeout_s)


class HttpNode(lp.Node):
    """Serves a mapping over HTTP until the program stops."""

    serves_only = True

    def __init__(self, pages: Mapping[str, Any], *, timeout_s: float = WAIT_S) -> None:
        self._pages = pages
        self._timeout_s = timeout_s

    def create_handle(self) -> HttpHandle:
        return HttpHandle(self, self._timeout_s)

    def arguments(self) -> Mapping[str, Any]:
        return {"pages": self._pages}

    def describe(self) -> str:
        return f"HttpNode({len(self._pages)} pages)"

    def run(self, context: lp.NodeContext) -> None:
        pages = lp.maybe_dereference(self._pages)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = pages[self.path.strip("/")]
                body = json.dumps(page.name() if hasattr(page, "name") else page).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            context.publish(state=lp.NodeState.READY, endpoint=f"127.0.0.1:{server.server_port}")
            context.stop.released.wait()
            server.shutdown()
            thread.join()


class Named:
    def name(self) -> str:
        return lp.get_context().name


class Broken(HttpNode):
    def run(self, context: lp.NodeContext) -> None:
        raise RuntimeError(f"{context.name} is broken")


def read(client: HttpClient, expected: list[Any]) -> None:
    assert isinstance(client, HttpClient)
    assert client.get("/numbers") == [1, 2, 3]
    assert client.get("/other") == expected
    lp.stop()


@both
def test_it_is_called_through_its_own_client(launch_type: str) -> None:
    # Given a node of one's own whose arguments have a handle of another one, deep inside.
    program = lp.Program("custom")
    named = program.add_node(lp.CourierNode(Named), label="named")
    pages = program.add_node(HttpNode({"numbers": [1, 2, 3], "other": named}), label="pages")
    program.add_node(lp.PyNode(read, pages, "named/0"), label="reader")
    # When it runs, then the reader got what it expects, and all have ended well.
    run = lp.launch(program, launch_type)
    run.wait()
    assert {str(record.state) for record in run.nodes.values()} == {"FINISHED"}


@both
def test_the_launcher_calls_it_too(launch_type: str) -> None:
    program = lp.Program("custom")
    pages = program.add_node(HttpNode({"x": "y"}), label="pages")
    with lp.launch(program, launch_type) as run:
        assert pages.dereference().get("/x") == "y"
        assert str(run.nodes["pages/0"].state) == "READY"


@both
def test_it_may_be_a_child_of_a_colocation(launch_type: str) -> None:
    program = lp.Program("custom")
    pages = HttpNode({"x": "y"})
    program.add_node(lp.MultiThreadingColocation([pages, lp.CourierNode(Named)]), label="co")
    with lp.launch(program, launch_type):
        assert pages.create_handle().dereference().get("/x") == "y"


def test_the_plan_knows_its_edges_its_mistakes_and_its_words() -> None:
    program = lp.Program("custom")
    named = program.add_node(lp.CourierNode(Named), label="named")
    program.add_node(HttpNode({"other": named}), label="pages")
    row = lp.compile_program(program, "local_mp").nodes[1]
    assert (row.kind, row.inputs, row.serves_only) == ("HttpNode(1 pages)", ("named/0",), True)
    program.add_node(HttpNode({"lock": threading.Lock()}), label="locked")
    with pytest.raises(PlanError, match=r"locked/0 pages\['lock'\] cannot be pickled"):
        lp.compile_program(program, "local_mp")


@both
def test_its_end_is_told_to_those_who_wait_for_it(launch_type: str) -> None:
    program = lp.Program("custom")
    with program.group("pages", on_failure="ignore"):  # the run goes on, so that it can be asked
        pages = program.add_node(Broken({}))
    program.add_node(lp.PyNode(lp.wait_for_stop), label="other")
    told = r"pages/0 has ended: raised RuntimeError: pages/0 is broken"
    with lp.launch(program, launch_type), pytest.raises(NodeExited, match=told):
        pages.dereference().get("/x")


class Sleepy(HttpNode):
    def run(self, context: lp.NodeContext) -> None:
        context.stop.released.wait()


def test_waiting_for_it_has_a_limit() -> None:
    program = lp.Program("custom")
    pages = program.add_node(Sleepy({}, timeout_s=0.1), label="pages")
    with lp.launch(program, "local_mt"), pytest.raises(DeadlineExceeded, match="pages/0 was not ready within"):
        pages.dereference().get("/x")


class Forgetful(lp.Node):
    """Defines run() alone, and does not call super().__init__(), having none."""

    def run(self, context: lp.NodeContext) -> None:
        assert context.label == "forgetful"
        assert lp.get_context() is context
        lp.stop()


@both
def test_run_is_enough(launch_type: str) -> None:
    program = lp.Program("custom")
    node = Forgetful()
    handle = program.add_node(node, label="forgetful")
    run = lp.launch(program, launch_type)
    run.wait()
    assert run.nodes["forgetful/0"].exit is not None
    program.add_node(lp.PyNode(print, handle), label="caller")
    with pytest.raises(PlanError, match="Forgetful, which serves no"):
        lp.compile_program(program)


class StartsItself:
    """Launchpad's semantics: who has set_courier_server starts the server."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._server: Any = None

    def set_courier_server(self, server: Any) -> None:
        self._server = server

    def run(self) -> None:
        assert not self._server.has_started
        time.sleep(self._delay_s)
        self._server.Start()
        lp.wait_for_stop()

    def started(self) -> bool:
        return bool(self._server.has_started)


@both
def test_a_server_that_is_handed_over_is_started_by_its_object_and_announced_then(launch_type: str) -> None:
    program = lp.Program("handed over")
    handle = program.add_node(lp.CourierNode(StartsItself, 0.2), label="server")
    program.add_node(lp.PyNode(ask, handle), label="client")
    run = lp.launch(program, launch_type)
    run.wait()
    assert {str(record.state) for record in run.nodes.values()} == {"FINISHED"}


def ask(server: Any) -> None:
    assert server.started()
    lp.stop()


def test_a_server_that_nobody_is_going_to_start_is_started_by_its_node() -> None:
    program = lp.Program("handed over")
    node = lp.CourierNode(StartsItself, 0.0)
    node.disable_run()
    handle = program.add_node(node, label="server")
    with lp.launch(program, "local_mt") as run:
        client = handle.dereference()
        assert client.started()
        courier.close(client)
        until(lambda: str(run.nodes["server/0"].state) == "READY", WAIT_S)
