"""What `make test-fast` runs: the tests that start no process, call no other host, and do not sleep.

pytest's option `--pure` leaves out what is listed here, files before they are imported. In every run, also in `make
test`, a guard fails those of the other tests that do such a thing after all: they are listed then, or mended.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

__all__ = ["Guard", "is_pure", "may_be_pure"]

TESTS = Path(__file__).parent
STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})
LONGEST_SLEEP_S = 0.5  # to poll, or to wait until a client tries again, is no sleep
OWN_HOSTS = ("127.", "::1", "localhost", "0.0.0.0")  # noqa: S104 - it is called, and not bound

FOLDERS = frozenset({"e2e", "ssh", "static_types", "testing"})
FILES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        folder: frozenset(names.split())
        for folder, names in {
            "cli": "ended_runs foreign_runs live_run run_command sweep sweep_init tmux",
            "compat": "programs",
            "documentation": "walkthroughs",
            "courier": "death full_sockets grpc_bulk grpc_process interpreter_end interrupters load silence",
            "experiments": "example hydra launcher_killed manager_data manager_sb3 manager_slurm manager_torch"
            " manager_tuning managers managers_alone memory owners package plots provenance returned rlpyt_launching"
            " run_sweep run_worker sample_factory_flags slurm slurm_template sweep_on_engine",
            "nodes": "async batched_handler checkpoints colocation courier custom_node python replay torch weights",
            "replay": "processes restart soak",
            "runtime": "broadcast channel connected_run dialled kubernetes logs nonblocking_stream pod serving sessions"
            " shared_tensors slurm_commands ssh_agents supervisor threads zygotes",
            "script": "children identity sharing",
            "ui": "browser routes",
            "spmd": "engine failures front_ends output run seed_page ssh weaknesses",
            "weights": "kills restart",
            ".": "cpython import leaks pure",
        }.items()
    }
)
"""Of each other folder: what follows `test_` in the files' names."""
TESTS_OF_OTHER_FILES = (
    "courier/test_client.py::test_a_child_of_fork_connects_anew",
    "courier/test_client.py::test_the_fastest_lane_is_taken",
    "courier/test_codec.py::test_code_that_cannot_be_imported_goes_by_value",
    "courier/test_contract.py::test_lane_keeps_the_contract[check_a_peer_that_dies_in_the_middle",
    "courier/test_copying.py::test_a_forked_child_finds_helpers_of_its_own",
    "courier/test_quota.py::test_another_user_cannot_reach_them",
    "experiments/test_descriptions.py::TestRuns::test_hostile_values_reach_the_child_as_they_are",
    "experiments/test_journal.py::test_another_user_may_read_it",
    "experiments/test_journal.py::test_a_killed_launcher_holds_nothing_and_its_commits_stay",
    "experiments/test_manager_files.py::test_what_is_written_is_found_again",
    "runtime/test_metrics.py::test_lines_of_threads_and_processes_do_not_mix",
    "experiments/test_sweepfile.py::test_pydantic_is_loaded_by_what_reads_a_file",
    "nodes/test_cacher.py::test_many_readers_cause_one_call[local_mp",
    "replay/test_flusher.py::test_a_child_of_fork_has_a_thread_of_its_own_for_its_own_writers",
    "runtime/test_compile.py::test_of_a_sequence_of_programs_the_first_is_launched",
    "runtime/test_compile.py::test_launch_starts_nothing_when_there_are_mistakes",
    "runtime/test_gpus.py::test_without_the_library_nvidia_smi_is_asked",
    "runtime/test_inventory.py::test_a_node_that_passes_its_memory_limit_is_named",
    "runtime/test_inventory.py::test_nodes_with_half_a_gpu_see_only_theirs",
    "runtime/test_scratch.py::test_the_next_one_removes_those_of_the_killed_and_leaves_those_of_the_living",
    "script/test_names.py::test_a_class_sent_by_value_is_filled_by_its_first_arrival_only",
    "spmd/test_env_file.py::test_values_agree_with_the_shell",
    "spmd/test_hosts.py::test_a_scontrol_that_fails_is_quoted",
    "spmd/test_hosts.py::test_slurm_is_asked_for_its_hosts",
    "spmd/test_races.py::test_a_host_that_another_run_let_go_of_in_between_is_lost",
    "spmd/test_races.py::test_a_run_that_is_submitted_while_its_launcher_is_closed_ends",
    "spmd/test_races.py::test_a_run_that_is_cancelled_while_it_connects_once_more_is_tried_no_more",
    "spmd/test_races.py::test_an_agent_whose_word_cannot_be_used_is_lost",
    "spmd/test_races.py::test_ctrl_c_while_ranks_run_is_what_run_raises",
    "test_concurrency_page.py::test_a_program_takes_locks_in_the_drawn_order",
    "test_pure.py::test_what_a_pure_test_does_not_do_fails_it",
    "test_ownership.py::test_what_mends_it_can_be_pasted_into_a_shell",
    "weights/test_publishing.py::test_a_child_that_is_forked_during_a_publication_keeps_nothing_locked",
    "weights/test_publishing.py::test_what_a_publisher_had_not_published_when_it_was_killed_was_never_there",
    "weights/test_publishing.py::test_a_forked_child_reads_and_publishes",
    "weights/test_relays.py::test_hosts_outlive_the_server",
)
"""How their names begin."""


def may_be_pure(path: Path) -> bool:
    """Whether a file has pure tests, as far as is listed; true of folders that hold such files."""
    place = path.relative_to(TESTS)
    if not FOLDERS.isdisjoint(place.parts):
        return False
    return place.stem.removeprefix("test_") not in FILES.get(place.parent.as_posix(), ())


def is_pure(item: pytest.Item) -> bool:
    """Whether a test is pure, as far as is listed."""
    return may_be_pure(item.path) and not item.nodeid.removeprefix("tests/").startswith(TESTS_OF_OTHER_FILES)


class Guard:
    """Fails what a pure test does not do. One for each process: an audit hook stays for good."""

    def __init__(self) -> None:
        self._found: list[str] | None = None  # what the running test did; None: no test runs
        sys.addaudithook(self._look)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Around a test. What it did is refused where it does it, and told at its end, wherever that error went."""
        found: list[str] = []
        self._found = found
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "sleep", self._sleep)  # of which Python tells its audit hooks from 3.13 on
            try:
                yield
            finally:
                self._found = None
        assert not found, f"a pure test {'; '.join(found)}: tests/pure.py lists those that may"

    def _sleep(self, duration_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
        if threading.current_thread() is threading.main_thread():  # what is tested may wait, in its own
            self._look("sleep", (duration_s,))
        sleep(duration_s)

    def _look(self, event: str, args: tuple[Any, ...]) -> None:
        if self._found is not None and (what := _impurity(event, args)):
            self._found.append(what)
            raise AssertionError(f"a pure test {what}: tests/pure.py lists those that may")


def _impurity(event: str, args: tuple[Any, ...]) -> str:
    if event in STARTS:
        return f"starts a process: {event}{args!r:.200}"
    if event == "sleep" and args[0] > LONGEST_SLEEP_S:
        return f"sleeps for {args[0]} s"
    if event == "socket.connect" and isinstance(args[1], tuple) and not str(args[1][0]).startswith(OWN_HOSTS):
        return f"calls {args[1]}"
    return ""
