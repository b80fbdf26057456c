"""What a run gives, and what its workers find."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from pathlib import Path

import psutil

from kourou.errors import PlanError
from kourou.runtime.metrics.log import logging_to
from kourou.runtime.metrics.reading import read_metrics
from kourou.spmd import Launcher, LaunchResult
from optional import optional, pytest
from polling import WAIT_S, until
from spmd import functions

torch = optional("torch")


def test_results_come_by_rank_and_by_host(gloo2: Launcher) -> None:
    result = gloo2.run(functions.sum_of_ranks)
    assert result.results == {"localhost": [(0, 1.0), (1, 1.0)]}
    assert (
        result.rank(1) == result.index("localhost", 1) == result.index(hostname="localhost", local_rank=1) == (1, 1.0)
    )


def test_places_that_are_none_are_refused() -> None:
    result = LaunchResult({"a": [1, 2], "b": [3]})
    assert result.rank(2) == 3
    for wrong in (-1, 3):
        with pytest.raises(IndexError, match="ranks 0 to 2"):
            result.rank(wrong)
    with pytest.raises(KeyError, match="its hosts are a, b"):
        result.index("c", 0)
    with pytest.raises(IndexError):
        result.index("b", 1)


def test_loopback_addresses_are_hosts_of_their_own(gloo2: Launcher) -> None:
    gloo2.hostnames, gloo2.workers_per_host = ["127.0.0.1", "127.0.0.2"], [1, 2]
    assert gloo2.run(functions.sum_of_ranks).results == {
        "127.0.0.1": [(0, 3.0)],
        "127.0.0.2": [(1, 3.0), (2, 3.0)],
    }
    names = ("GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    seen = [tuple(v.values()) for host in gloo2.run(functions.variables, *names).results.values() for v in host]
    assert seen == [("0", "0", "1"), ("1", "0", "2"), ("1", "1", "2")]


def test_workers_know_their_place(gloo2: Launcher) -> None:
    environment = gloo2.run(functions.environment).rank(1)
    expected = {"RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "0", "ROLE_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    expected |= {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}
    assert {name: environment[name] for name in expected} == expected
    assert 0 < int(environment["MASTER_PORT"]) < 1 << 16


def test_libraries_that_make_the_group_themselves_find_the_rendezvous(gloo2: Launcher) -> None:
    gloo2.backend = None
    assert gloo2.run(functions.use_the_environment).rank(1) == (1, 1.0)
    assert gloo2.run(functions.is_initialized).rank(0) is False


def test_ranks_of_this_machine_log_to_the_callers_metrics(gloo2: Launcher, tmp_path: Path) -> None:
    with logging_to(tmp_path):
        gloo2.run(functions.log_rank, 3)
    assert sorted((row["node"], row["rank"]) for row in read_metrics(tmp_path)) == [("rank/0", 0), ("rank/1", 1)]


def test_the_usual_backend_fits_the_machine(gloo2: Launcher) -> None:
    # Given no word about a backend
    gloo2.backend = Launcher.backend
    # When ranks work together: with gloo, unless each of them has a GPU
    expected = "nccl" if torch.cuda.is_available() and torch.cuda.device_count() > 1 else "gloo"
    assert gloo2.run(functions.backend).results == {"localhost": [expected, expected]}


def test_nccl_without_gpus_is_refused_with_what_to_say_instead(gloo2: Launcher) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    gloo2.backend = "nccl"
    with pytest.raises(PlanError, match=r"none for rank [01] \(localhost\[[01]\]\): say backend='gloo'"):
        gloo2.run(functions.rank)


def test_ranks_draw_numbers_of_their_own_in_every_run(gloo2: Launcher) -> None:
    # Given generators that nobody seeded
    gloo2.backend = None
    # When
    drawn = [numbers for _ in range(2) for numbers in gloo2.run(functions.draw).results["localhost"]]
    # Then no two ranks of any run have drawn the same, from any of the generators
    assert [len(set(column)) for column in zip(*drawn, strict=True)] == [4] * 4


def test_variables_are_inherited_and_extra_ones_count_more_and_the_file_most(
    gloo2: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SPMD_A", "SPMD_B", "SPMD_C"):
        monkeypatch.setenv(name, "inherited")
    gloo2.extra_env_vars = {"SPMD_B": "extra", "SPMD_C": "extra", "odd name": "a 'b'\n\"c\" $HOME"}
    gloo2.env_file = tmp_path / "env"
    (tmp_path / "env").write_text("SPMD_C=$SPMD_B-file", encoding="utf-8")
    seen = gloo2.run(functions.variables, "SPMD_A", "SPMD_B", "SPMD_C", "odd name").rank(0)
    assert list(seen.values()) == ["inherited", "extra", "extra-file", "a 'b'\n\"c\" $HOME"]


def test_an_async_function_runs_on_an_event_loop_and_a_generator_is_refused(gloo2: Launcher) -> None:
    assert gloo2.run(functions.rank_in_time).results == {"localhost": [0, 1]}
    with pytest.raises(TypeError, match="ranks_one_by_one is a generator function"):
        gloo2.submit(functions.ranks_one_by_one)


def test_variables_may_be_numbers_and_what_is_no_text_is_told_before_a_worker_starts(gloo2: Launcher) -> None:
    gloo2.extra_env_vars = {"SPMD_A": 1}  # type: ignore[dict-item]  # as users have it
    assert gloo2.run(functions.variables, "SPMD_A").rank(1) == {"SPMD_A": "1"}
    gloo2.extra_env_vars = {"SPMD_A": None}  # type: ignore[dict-item]  # likewise
    with pytest.raises(ValueError, match="'SPMD_A'=None cannot be an environment variable"):
        gloo2.submit(functions.rank)


def test_variables_that_torch_reads_at_its_import_reach_it(gloo2: Launcher) -> None:
    usual = gloo2.run(torch.get_num_threads).rank(0)
    other = usual - 1 or 2
    gloo2.extra_env_vars = {"OMP_NUM_THREADS": str(other)}
    assert gloo2.run(torch.get_num_threads).results == {"localhost": [other, other]}


def test_a_rank_that_has_nothing_to_do_does_not_leave_while_others_still_connect(gloo2: Launcher) -> None:
    gloo2.workers_per_host = 3
    for _ in range(10):
        assert gloo2.run(functions.rank).results == {"localhost": [0, 1, 2]}


def test_a_worker_starts_where_its_launcher_is(
    gloo2: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a 'b' \"c\"\n$d"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert gloo2.run(os.getcwd).rank(1) == str(folder)
    monkeypatch.setattr(sys, "argv", ["script", "--flag"])
    assert gloo2.run(functions.variables).rank(0) == {}


def test_workers_are_forked_from_one_zygote_that_stays(gloo2: Launcher) -> None:
    first, second = gloo2.run(functions.parent), gloo2.run(functions.parent)
    assert len({*first.results["localhost"], *second.results["localhost"]}) == 1


def test_workers_end_without_taking_the_operators_of_torch_apart(gloo2: Launcher) -> None:
    # kourou.cpython knows by this name what torch would do in each of them: the operators were imported before the fork
    assert "torch.library" in gloo2.run(functions.finalizers).rank(0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_arguments_are_there_once_for_all_workers(gloo2: Launcher) -> None:
    # Given 256 MB, of which no worker may make a copy
    state = {"a": torch.ones(32 << 20), "b": torch.ones(32 << 20)}
    size = sum(value.nbytes for value in state.values())
    told = gloo2.run(functions.sums_and_pages, state).results["localhost"]
    assert len(told) == 2
    for total, mapped, copied in told:
        assert total == 64 << 20
        assert mapped >= size
        assert copied == 0


def test_what_a_worker_changes_is_its_own(gloo2: Launcher) -> None:
    values = torch.zeros(1 << 20)
    assert gloo2.run(functions.change_own_copy, values).results["localhost"] == [float(1 << 20), float(2 << 20)]
    assert not values.any()


def test_large_results_are_mapped_and_may_be_changed(gloo2: Launcher) -> None:
    result = gloo2.run(functions.ones, 8 << 20).rank(1)
    result += 1
    assert result.sum().item() == 2 * (8 << 20)
    assert gloo2.run(functions.ones, 0).rank(0).numel() == 0


@pytest.mark.usefixtures("without_torch")  # which each zygote would import
def test_a_launcher_may_be_copied_be_used_again_after_its_close_and_be_dropped(tmp_path: Path) -> None:
    with Launcher(["localhost"], workers_per_host=2, backend=None).set_logging_handlers(None) as launcher:
        zygote = launcher.run(functions.parent).rank(0)
        # When a copy is closed, then what was under way is cancelled
        copy = pickle.loads(pickle.dumps(launcher))
        assert copy == launcher
        with copy:
            running = copy.submit(functions.announce_and_wait, tmp_path)
            until(lambda: list(tmp_path.glob("*.pid")), WAIT_S)
        assert running.cancelled()
        # And it may be used again, as a launcher of its own
        own = copy.run(functions.parent).rank(0)
        assert own != zygote
        # When it is dropped, then its zygote ends
        del copy, running
        gc.collect()
        until(lambda: not psutil.pid_exists(own), WAIT_S)
        assert launcher.run(functions.parent).rank(0) == zygote


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("worker_timeout_s", 0, "worker_timeout_s"),
        ("agent_timeout_s", float("inf"), "agent_timeout_s"),
        ("retries", -1, "retries"),
        ("copy_env_vars", "PATH", "tuple of patterns"),
        ("workers_per_host", 0, "workers_per_host"),
        ("hostnames", [], "hostnames"),
    ],
)
def test_fields_without_meaning_are_refused(gloo2: Launcher, field: str, value: object, words: str) -> None:
    setattr(gloo2, field, value)
    with pytest.raises(ValueError, match=words):
        gloo2.run(functions.rank)


def test_what_is_no_function_is_refused(gloo2: Launcher) -> None:
    with pytest.raises(TypeError, match="a function and its arguments"):
        gloo2.run("train")  # type: ignore[call-overload]
