"""What docs/weights.md shows runs: the program, and the three shapes of those who read."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

import kourou as lp
from documentation.pages import DOCS, blocks
from kourou.errors import WeightsError
from kourou.weights import Client, Server
from optional import is_there, optional, pytest

torch = optional("torch")
pytestmark = [
    pytest.mark.usefixtures("no_leaks", "runs_dir"),
    pytest.mark.skipif(not is_there("torch"), reason="torch is not installed"),
]

CODE = [block.text for block in blocks(DOCS / "weights.md") if block.language == "python"]
PROGRAM, POLLING, SERVING, EXACT, TRANSPORT = CODE


@pytest.fixture
def served() -> Iterator[Client]:
    with Server(keep=12) as server, server.localhost_client() as client:
        for version in range(100, 1001, 100):
            client.publisher().publish(torch.nn.Linear(8, 2).state_dict(), version=version)
        yield client


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "weights.md", "exec"), names)
    return names


def test_the_program_runs() -> None:
    played: list[int] = []

    def play_an_episode(_model: Any, version: int) -> None:
        played.append(version)
        lp.stop()

    names = run(PROGRAM, train=lambda _: None, play_an_episode=play_an_episode)
    lp.launch(names["program"], "local_mt").wait()
    assert played


def test_actors_that_poll(served: Client) -> None:
    model, subscriber = torch.nn.Linear(8, 2), served.subscriber()
    names = run(POLLING, subscriber=subscriber, view=types.SimpleNamespace(version=99), model=model)
    assert names["view"].version == 1000
    assert torch.equal(model.weight, names["view"].weights["weight"])


def test_an_inference_server(served: Client) -> None:
    answers: list[tuple[Any, int]] = []
    names = {
        "batches": [types.SimpleNamespace(inputs=torch.ones(3, 8))] * 2,
        "answer": lambda _batch, values, version: answers.append((values.shape, version)),
    }
    run(SERVING, torch=torch, subscriber=served.subscriber(), model=torch.nn.Linear(8, 2), **names)
    assert answers == [((3, 2), 1000)] * 2


def test_an_evaluator(served: Client) -> None:
    seen: list[int] = []
    run(
        EXACT,
        subscriber=served.subscriber(),
        model=torch.nn.Linear(8, 2),
        evaluate=lambda _model, version: seen.append(version),
    )
    assert seen == list(range(100, 1001, 100))


def test_a_transport(served: Client) -> None:
    publisher, subscriber = (functools.partial(make, "t") for make in (served.publisher, served.subscriber))
    names = run(TRANSPORT, weights=types.SimpleNamespace(publisher=publisher, subscriber=subscriber))
    assert names["model"] == {"w": 0.5}
    view = names["subscriber"].require()
    assert (view.version, view.weights) == (7, {"w": 0.5})
    with pytest.raises(WeightsError, match="published with a transport"):
        _ = served.subscriber("t").require().weights
