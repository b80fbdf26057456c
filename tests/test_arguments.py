"""Arguments that programs for other projects give by other names, or that do nothing here."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import inspect
import pickle
import types
from pathlib import Path
from typing import Any

import pytest

import kourou as lp
from kourou import courier, replay
from kourou.arguments import also_named
from kourou.spmd import Launcher


@also_named(seconds="timeout_s", timeout_ms="timeout_s", formerly={"timeout": "timeout_s"})
def wait(what: str = "it", timeout_s: float | None = None) -> tuple[str, float | None]:
    """Wait."""
    return what, timeout_s


@also_named(patience="patience_s")
@dataclasses.dataclass
class Waiter:
    name: str
    patience_s: float = 1.0


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, None),
        ({"timeout_s": 2}, 2),
        ({"seconds": 2}, 2),
        ({"timeout_ms": 500}, 0.5),
        ({"timeout_ms": 0}, 0),
        ({"timeout_ms": None}, None),
        ({"timeout_ms": -1}, None),
    ],
)
def test_an_argument_may_be_given_by_another_projects_name(given: dict[str, Any], seen: float | None) -> None:
    assert wait("them", **given) == ("them", seen)


def test_a_former_name_warns_where_it_is_used() -> None:
    with pytest.warns(DeprecationWarning, match="timeout is now named timeout_s") as told:
        assert wait(timeout=3) == ("it", 3)  # type: ignore[call-arg]
    assert told[0].filename == __file__


@pytest.mark.parametrize("given", [{"timeout_s": 1, "seconds": 1}, {"seconds": 1, "timeout_ms": 1}])
def test_an_argument_that_is_given_by_two_names_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"wait\(\) was given timeout_s twice: \w+ is another name of it"):
        wait(**given)


def test_an_unknown_argument_is_told_by_its_own_name() -> None:
    with pytest.raises(TypeError, match=r"wait.*'second'"):
        wait(second=1)  # type: ignore[call-arg]


def test_another_name_of_no_argument_is_found_when_the_module_is_imported() -> None:
    with pytest.raises(AssertionError, match=r"wait has no \{'timeout'\}"):
        also_named(seconds="timeout")(wait.__wrapped__)  # type: ignore[attr-defined]


def test_what_has_other_names_keeps_its_own_signature() -> None:
    assert list(inspect.signature(wait).parameters) == ["what", "timeout_s"]
    assert list(inspect.signature(Waiter).parameters) == ["name", "patience_s"]
    assert pickle.loads(pickle.dumps(wait)) is wait


def test_fields_may_be_given_read_and_set_by_another_name() -> None:
    # Given
    waiter: Any = Waiter("w", patience=2)  # type: ignore[call-arg]
    assert (waiter.patience, waiter) == (2, Waiter("w", 2))
    # When
    waiter.patience = 3
    # Then
    assert pickle.loads(pickle.dumps(waiter)) == Waiter("w", 3)


def test_programs_of_other_projects_find_their_names(serve_table: replay.Server) -> None:
    # Given
    never: dict[str, Any] = {"call_timeout": datetime.timedelta(seconds=20)}
    batched: dict[str, Any] = {"batch_size": 1, "timeout": datetime.timedelta(milliseconds=1)}
    torchrunx: dict[str, Any] = {"worker_timeout": 5, "agent_timeout": 6}
    # Then: Launchpad's
    courier.close(courier.Client("127.0.0.1:1", **never))
    lp.batched_handler(**batched)
    with contextlib.suppress(lp.errors.NotInProgram):
        lp.wait_for_stop(timeout_secs=0)  # type: ignore[call-arg]
    # Reverb's
    client: Any = replay.Client(serve_table.address)
    with client, client.trajectory_writer(1) as writer:
        writer.append({"x": 1})
        writer.flush(block_until_num_items=0, timeout_ms=10_000)
        writer.end_episode(timeout_ms=10_000)
        assert client.server_info(timeout=10)["t"].current_size == 0
    # torchrunx's
    launcher: Any = Launcher(**torchrunx)
    assert (launcher.worker_timeout_s, launcher.agent_timeout_s) == (5, 6)


@pytest.fixture
def serve_table() -> Any:
    with replay.Server([replay.Table.queue("t", 1)]) as server:
        yield server


def test_arguments_that_are_accepted_and_ignored_warn_where_they_are_given(serve_table: replay.Server) -> None:
    with pytest.warns(UserWarning, match="the argument compress is ignored: .* other projects") as told:
        courier.Client("127.0.0.1:1", compress=True)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="is_priority"):
        courier.Server("ignored").bind("step", print, is_priority=True)


def test_a_folder_for_data_is_ignored_with_a_warning_where_data_cannot_lie_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kourou.replay.server.server.sys", types.SimpleNamespace(platform="darwin"))
    with pytest.warns(UserWarning, match=r"spill_dir is ignored: .* Linux only"):
        replay.Server([replay.Table.queue("t", 1)], spill_dir=tmp_path).stop()


def test_items_are_checked_whether_they_are_to_be_or_not(serve_table: replay.Server) -> None:
    with replay.Client(serve_table.address) as client:
        with pytest.warns(UserWarning, match="validate_items is ignored") as told:
            writer = client.trajectory_writer(1, validate_items=False)
        assert told[0].filename == __file__
        with writer:
            writer.append({"x": 1})
            with pytest.raises(lp.errors.TableNotFound):
                writer.create_item("no such table", 1.0, {"x": writer.history["x"][-1:]})
