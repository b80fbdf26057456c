"""What a server offers and says of itself, to clients of ours and to any that speak gRPC."""

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from kourou import courier
from kourou.courier import Client, Endpoint, Server, list_methods, new_token
from kourou.courier.core import token
from kourou.errors import (
    ProtocolError,
    ServerUnavailable,
    Unauthenticated,
    UnknownMethod,
)
from kourou.proto.v1 import courier_pb2

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_health_and_reflection(server):
    with grpc.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "kourou.v1.Courier"):
            request = health_pb2.HealthCheckRequest(service=service)
            assert health.Check(request, timeout=20).status == health_pb2.HealthCheckResponse.SERVING
        server.SetIsHealthy(False)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        mirror: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        (found,) = mirror.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=20
        )
        assert "kourou.v1.Courier" in {service.name for service in found.list_services_response.service}


def test_metrics_over_grpc(server):
    client = Client(server.address, token="t")
    for _ in range(10):
        client.echo(b"x" * 1000)
    courier.close(client)
    with grpc.insecure_channel(server.address) as channel:
        ask: Any = channel.unary_unary(
            "/kourou.v1.Courier/Metrics", response_deserializer=courier_pb2.MetricsReply.FromString
        )
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            ask(b"", timeout=20)
        found = {method.name: method for method in ask(b"", timeout=20, metadata=(("kourou-token", "t"),)).methods}
    assert (found["echo"].calls, found["echo"].errors) == (10, 0)
    assert found["echo"].bytes_in >= 10_000
    assert sum(found["echo"].latency_us_log2) == 10


def test_servers_say_what_is_wrong():
    server = Server(token="t")
    with pytest.raises(ValueError, match="not started"):
        server.Stop()
    with pytest.raises(ValueError, match="not started"):
        server.Join()
    with pytest.raises(ServerUnavailable, match="not started"):
        _ = server.port
    with pytest.raises(ValueError, match="non-empty"):
        server.Bind("", print)
    with pytest.raises(UnknownMethod):
        server.Unbind("nothing")
    server.Start()
    with pytest.raises(ValueError, match="already started"):
        server.Start()
    assert server.has_started
    server.Stop()
    server.Join()


class Odd(dict):
    """Everything that binding an object could stumble over."""

    __slots__ = ("empty",)
    public = len
    Nested = int

    @property
    def costly(self):
        raise AssertionError("evaluated")

    @staticmethod
    def static(x):
        return x

    @classmethod
    def kind(cls):
        return cls.__name__

    def set_courier_server(self, server):
        raise AssertionError("bound")


class Wrapper:
    """Hands on what it wraps, as Acme's CheckpointingRunner does: only ``__dir__`` and ``__getattr__`` know of it."""

    def __init__(self, wrapped):
        self._wrapped = wrapped

    def __dir__(self):
        return [*dir(self._wrapped), "get_directory"]

    def __getattr__(self, name):
        return getattr(self._wrapped, name)

    def get_directory(self):
        return "here"


class Learner:
    steps = 3

    @property
    def state(self):
        raise RuntimeError("not ready")

    def get_variables(self, names):
        return [len(name) for name in names]


def test_what_a_wrapper_lists_and_hands_on_can_be_called():
    with Server(token="t") as server:
        server.bind_object(Wrapper(Learner()))
        client = Client(server.address, token="t")
        assert list_methods(client) == ["get_directory", "get_variables"]
        assert client.get_variables(["policy"]) == [6]
        assert client.get_directory() == "here"


def test_odd_objects_can_be_bound():
    with Server(token="t") as server:
        server.bind_object(Odd(a=1))
        client = Client(server.address, token="t")
        names = list_methods(client)
        assert {"static", "kind", "keys", "public", "Nested"} <= set(names)
        assert not {"costly", "set_courier_server", "empty"} & set(names)
        assert client.static(3) == 3
        assert client.kind() == "Odd"
        with pytest.raises(
            UnknownMethod, match="method empty not found; empty is an attribute there, and calls are of"
        ):
            client.empty()
        courier.close(client)


def test_methods_of_kourou_itself_are_not_shown(server):
    # Given a server with a method that every node's server has
    server.bind("kourou.calls", lambda: 3)
    client = Client(server.address, token="t")
    # When somebody asks for a method that does not exist
    with pytest.raises(UnknownMethod) as caught:
        client.nul()
    # Then only the node's own methods are shown, there and in the list
    assert str(caught.value).endswith("(methods: null, echo)")
    assert list_methods(client) == ["echo", "null"]
    assert getattr(client, "kourou.calls")() == 3
    courier.close(client)


def test_the_users_token(tmp_path, monkeypatch):
    path = tmp_path / "spaced dir" / "token"
    monkeypatch.setenv(token.TOKEN_FILE_VARIABLE, str(path))
    first = token.user_token()
    assert token.user_token() == first
    assert path.stat().st_mode & 0o777 == 0o600
    with Server() as server:
        server.bind("null", lambda: None)
        client = Client(server.address)
        assert client.null() is None
        courier.close(client)
    path.chmod(0o644)
    with pytest.raises(Unauthenticated, match="chmod 600"):
        token.user_token()
    path.chmod(0o600)
    path.write_text("")
    with pytest.raises(Unauthenticated, match="does not hold"):
        token.user_token()
    assert new_token() != new_token()


def test_endpoints_as_json(server):
    assert Endpoint.from_json(server.endpoint.to_json()) == server.endpoint
    for text in ("", "[]", "{}", '{"server_id": 1, "pid": "x", "host_id": "", "grpc": ""}'):
        with pytest.raises(ProtocolError):
            Endpoint.from_json(text)
