"""Dividing a machine: the examples of rlpyt's page and of our own notes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from kourou.errors import KourouError
from kourou.experiments.rlpyt.affinity import Affinity, affinity_from_code, all_cpus, make_affinity
from kourou.experiments.rlpyt.affinity_code import (
    AffinityCode,
    decode_affinity,
    encode_affinity,
    get_n_run_slots,
    prepend_run_slot,
    remove_run_slot,
)
from kourou.experiments.rlpyt.cpus import quick_affinity_code
from kourou.runtime.model.inventory import Inventory

PLAIN: dict[str, Any] = {"hyperthread_offset": 0, "n_socket": 1}


def affinity_of(run_slot: int = 0, **options: object) -> Affinity:
    affinity = make_affinity(run_slot, **{**PLAIN, **options})
    assert isinstance(affinity, Affinity)
    return affinity


class TestThePagesMachine:
    """An 8-GPU, 40-CPU machine."""

    def test_one_gpu_a_run_makes_8_runs_of_5_cpus(self) -> None:
        code = encode_affinity(n_cpu_core=40, n_gpu=8, **PLAIN)
        assert get_n_run_slots(code) == 8
        for slot in range(8):
            affinity = affinity_from_code(prepend_run_slot(slot, code))
            assert isinstance(affinity, Affinity)
            assert affinity.cuda_idx == slot
            assert affinity.all_cpus == tuple(range(5 * slot, 5 * slot + 5))
            assert affinity.workers_cpus == tuple((cpu,) for cpu in affinity.all_cpus)

    def test_two_gpus_a_run_make_4_runs(self) -> None:
        code = encode_affinity(n_cpu_core=40, n_gpu=8, gpu_per_run=2, **PLAIN)
        assert get_n_run_slots(code) == 4
        for slot in range(4):
            affinity = affinity_from_code(prepend_run_slot(slot, code))
            assert isinstance(affinity, list)
            assert [part.cuda_idx for part in affinity] == [2 * slot, 2 * slot + 1]
            assert [len(part.all_cpus) for part in affinity] == [5, 5]
            assert all_cpus(affinity) == tuple(range(10 * slot, 10 * slot + 10))


class TestTheNotesVectors:
    def test_second_threads_follow_the_cores(self) -> None:
        affinity = affinity_of(1, n_cpu_core=8, n_gpu=2, hyperthread_offset=8)
        assert affinity.cuda_idx == 1
        assert affinity.master_cpus == (4, 5, 6, 7, 12, 13, 14, 15)
        assert affinity.workers_cpus == ((4, 12), (5, 13), (6, 14), (7, 15))
        assert affinity.master_torch_threads == 4

    def test_contexts_are_spread_over_the_gpus_first(self) -> None:
        got = [affinity_of(slot, n_cpu_core=8, n_gpu=2, contexts_per_gpu=2) for slot in range(4)]
        assert [(a.cuda_idx, a.all_cpus) for a in got] == [(0, (0, 1)), (1, (4, 5)), (0, (2, 3)), (1, (6, 7))]

    def test_a_run_on_cpus_alone_has_no_gpu(self) -> None:
        affinity = affinity_of(1, n_cpu_core=4, n_gpu=0, cpu_per_run=2)
        assert (affinity.all_cpus, affinity.workers_cpus) == ((2, 3), ((2,), (3,)))
        assert "cuda_idx" not in affinity
        with pytest.raises(AttributeError, match="no 'cuda_idx', it has all_cpus"):
            _ = affinity.cuda_idx

    def test_reserved_cores_are_the_masters_alone(self) -> None:
        affinity = affinity_of(n_cpu_core=8, n_gpu=1, cpu_per_worker=2, cpu_reserved=2, hyperthread_offset=8)
        assert affinity.workers_cpus == ((2, 3, 10, 11), (4, 5, 12, 13), (6, 7, 14, 15))
        assert affinity.master_cpus == tuple(range(16))

    def test_alternating_workers_split_the_threads(self) -> None:
        affinity = affinity_of(n_cpu_core=8, n_gpu=2, hyperthread_offset=8, alternating=True)
        assert affinity.workers_cpus == ((0,), (1,), (2,), (3,), (8,), (9,), (10,), (11,))

    def test_the_second_socket_begins_after_unused_numbers(self) -> None:
        affinity = affinity_of(4, n_cpu_core=16, n_gpu=8, hyperthread_offset=24, n_socket=2)
        assert (affinity.cuda_idx, affinity.all_cpus) == (4, (12, 13, 36, 37))

    def test_several_optimizers_get_cores_of_their_own(self) -> None:
        affinity = affinity_of(1, n_cpu_core=16, n_gpu=8, gpu_per_run=2, async_sample=True, sample_gpu_per_run=2)
        assert [(o.cuda_idx, o.cpus) for o in affinity.optimizer] == [(4, (8,)), (5, (9,))]
        assert [(s.cuda_idx, s.all_cpus) for s in affinity.sampler] == [(6, (10, 11, 12)), (7, (13, 14, 15))]


class TestAsynchronousRuns:
    """What scripts that come with rlpyt ask for, and more; the numbers are those that rlpyt gives them."""

    def test_cores_that_cannot_be_divided_among_samplers_stay_idle(self) -> None:
        affinity = affinity_of(n_cpu_core=24, n_gpu=4, async_sample=True, sample_gpu_per_run=2, alternating=True)
        assert [(s.cuda_idx, s.all_cpus) for s in affinity.sampler] == [
            (1, tuple(range(1, 12))),
            (2, tuple(range(12, 23))),
        ]
        assert affinity.all_cpus == tuple(range(23))

    def test_cores_that_are_less_than_a_workers_share_stay_idle(self) -> None:
        affinity = affinity_of(n_cpu_core=8, n_gpu=1, async_sample=True, cpu_per_worker=3)
        assert (affinity.sampler.all_cpus, affinity.sampler.workers_cpus) == (
            (1, 2, 3, 4, 5, 6),
            ((1, 2, 3), (4, 5, 6)),
        )
        affinity = affinity_of(n_cpu_core=10, n_gpu=3, async_sample=True, sample_gpu_per_run=2, cpu_per_worker=3)
        assert [(s.all_cpus, s.workers_cpus) for s in affinity.sampler] == [
            ((1, 2, 3, 4), ((1, 2, 3),)),
            ((5, 6, 7, 8), ((5, 6, 7),)),
        ]

    @pytest.mark.parametrize("sampling", [0, 1, 3])
    def test_samplers_that_share_the_optimizers_gpus_are_as_many_as_those(self, sampling: int) -> None:
        options: dict[str, Any] = {"n_cpu_core": 24, "n_gpu": 8, "hyperthread_offset": 24, "async_sample": True}
        affinity = affinity_of(1, **options, sample_gpu_per_run=sampling, optim_sample_share_gpu=True)
        assert [(o.cuda_idx, o.cpus) for o in affinity.optimizer] == [(1, (3, 27))]
        assert [(s.cuda_idx, s.all_cpus) for s in affinity.sampler] == [(1, (4, 5, 28, 29))]

    def test_runs_stay_on_one_socket_where_they_fit_on_it(self) -> None:
        options: dict[str, Any] = {"n_cpu_core": 16, "n_gpu": 8, "n_socket": 2, "hyperthread_offset": 24}
        affinity = affinity_of(2, **options, async_sample=True, sample_gpu_per_run=1)
        assert [(o.cuda_idx, o.cpus) for o in affinity.optimizer] == [(4, (12, 36))]
        assert [(s.cuda_idx, s.all_cpus) for s in affinity.sampler] == [(5, (13, 14, 15, 37, 38, 39))]

    def test_larger_ones_are_spread_evenly_over_theirs(self) -> None:
        options: dict[str, Any] = {"n_cpu_core": 16, "n_gpu": 8, "n_socket": 2, "gpu_per_run": 2}
        affinity = affinity_of(0, **options, async_sample=True, sample_gpu_per_run=4)
        assert [(o.cuda_idx, o.cpus) for o in affinity.optimizer] == [(0, (0,)), (4, (8,))]
        assert [(s.cuda_idx, s.all_cpus) for s in affinity.sampler] == [
            (1, (1, 2, 3)),
            (2, (4, 5, 6)),
            (5, (9, 10, 11)),
            (6, (12, 13, 14)),
        ]


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"n_cpu_core": 10, "n_gpu": 4}, "n_cpu_core 10 cannot be divided evenly by n_gpu × contexts_per_gpu 4"),
            (
                {"n_cpu_core": 5, "cpu_per_run": 2},
                "n_cpu_core 5 cannot be divided evenly by cpu_per_run 2: 1 left over",
            ),
            ({"n_cpu_core": 4, "n_gpu": 1, "cpu_per_worker": 3}, "left for workers 4 .* by cpu_per_worker 3"),
            ({"n_cpu_core": 3, "n_gpu": 1, "n_socket": 2}, "cannot be divided evenly among n_socket 2"),
            (
                {"n_cpu_core": 6, "n_gpu": 3, "n_socket": 2},
                "3 run slots of 2 cores cannot be divided among n_socket 2 with 3 cores",
            ),
            ({"n_cpu_core": 1, "n_gpu": 1, "n_socket": 2, "hyperthread_offset": 3}, "1 run slots of 1 cores cannot be"),
            (
                {"n_cpu_core": 12, "n_gpu": 6, "n_socket": 4, "async_sample": True, "sample_gpu_per_run": 1},
                "try n_socket=1",
            ),
            (
                {"n_cpu_core": 8, "n_gpu": 4, "n_socket": 2, "gpu_per_run": 3, "async_sample": True},
                "gpu_per_run 3 cannot",
            ),
            ({"n_cpu_core": 4, "n_gpu": 2, "gpu_per_run": 2, "contexts_per_gpu": 2}, "use contexts_per_gpu=1"),
            ({"n_cpu_core": 4, "async_sample": True}, "needs a GPU"),
            ({"n_cpu_core": 3, "n_gpu": 2, "gpu_per_run": 2, "async_sample": True, "cpu_reserved": 2}, "need 4 cores"),
            ({"n_cpu_core": 8, "hyperthread_offset": 4}, "would be those of other cores"),
            ({"n_cpu_core": 0}, "n_cpu_core is a whole number of at least 1, got 0"),
            ({"n_cpu_core": 1.5}, "whole number"),
        ],
    )
    def test_the_message_has_the_numbers(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            make_affinity(**{**PLAIN, **options})
        assert isinstance(caught.value, KourouError)

    @pytest.mark.parametrize("slot", [-1, 2])
    def test_slots_count_from_0_to_their_number(self, slot: int) -> None:
        with pytest.raises(ValueError, match="none of the 2 slots of 4cpu_0gpu_2cpr_0hto"):
            make_affinity(slot, n_cpu_core=4, cpu_per_run=2, **PLAIN)

    @pytest.mark.parametrize(
        "code", ["", "8cpu_2cpus", "8CPU_2gpu", "cpu_2gpu", "8cpu__2gpu", "٨cpu_2gpu", "8cpu 2gpu", "8cpu_2gpu\n"]
    )
    def test_a_word_that_codes_lack_is_named(self, code: str) -> None:
        with pytest.raises(ValueError, match="Unrecognized affinity code abbreviation"):
            decode_affinity(code)

    def test_what_a_code_must_say(self) -> None:
        with pytest.raises(ValueError, match="how many gpu"):
            AffinityCode.decode("8cpu")
        with pytest.raises(ValueError, match="cpu twice"):
            decode_affinity("8cpu_2gpu_4cpu")
        with pytest.raises(ValueError, match="no run slot"):
            affinity_from_code("8cpu_2gpu")

    def test_a_slot_comes_once_and_goes_once(self) -> None:
        assert remove_run_slot(prepend_run_slot(1, "8cpu_2gpu")) == (1, "8cpu_2gpu")
        with pytest.raises(ValueError, match="has a run slot already"):
            prepend_run_slot(0, "1slt_8cpu_2gpu")
        with pytest.raises(ValueError, match="does not begin with a run slot"):
            remove_run_slot("8cpu_2gpu")
        with pytest.raises(ValueError, match="none of the 2 slots"):
            prepend_run_slot(2, "8cpu_2gpu")


class TestQuickCodes:
    def test_all_gpus_and_as_many_cores_as_divide(self) -> None:
        inventory = Inventory(cpus=tuple(range(22)), gpus=("0", "1", "2", "3"))
        numbers = decode_affinity(quick_affinity_code(inventory=inventory))
        assert numbers["gpu"] == 4
        assert numbers["cpu"] % 4 == 0

    def test_fewer_gpus_than_there_are(self) -> None:
        inventory = Inventory(cpus=tuple(range(16)), gpus=("0", "1", "2", "3"))
        code = quick_affinity_code(3, contexts_per_gpu=2, inventory=inventory)
        assert get_n_run_slots(code) == 6

    def test_cores_are_shared_by_the_runs(self) -> None:
        inventory = Inventory(cpus=tuple(range(16)), gpus=("0",))
        code = quick_affinity_code(3, use_gpu=False, inventory=inventory)
        assert get_n_run_slots(code) == 3

    def test_never_more_runs_than_cores(self) -> None:
        code = quick_affinity_code(100, use_gpu=False, inventory=Inventory(cpus=(3,)))
        assert get_n_run_slots(code) == 1

    @pytest.mark.parametrize("n_parallel", [None, 0, -2])
    def test_without_gpus_it_has_to_be_said_how_many(self, n_parallel: int | None) -> None:
        with pytest.raises(ValueError, match="n_parallel says how many runs"):
            quick_affinity_code(n_parallel, inventory=Inventory(cpus=(0, 1)))

    def test_more_gpus_than_cores_is_refused(self) -> None:
        with pytest.raises(ValueError, match="4 runs on 4 GPUs need a core each"):
            quick_affinity_code(inventory=Inventory(cpus=(0, 1), gpus=("0", "1", "2", "3")))

    def test_this_machine_is_asked_by_default(self) -> None:
        assert get_n_run_slots(quick_affinity_code(1, use_gpu=False)) == 1
        assert decode_affinity(encode_affinity(n_cpu_core=64)).keys() >= {"cpu", "gpu", "cpr"}


@given(
    gpus=st.integers(0, 8),
    per_run=st.integers(1, 6),
    contexts=st.integers(1, 3),
    threads=st.sampled_from([0, 1]),
    sockets=st.sampled_from([1, 2]),
)
def test_no_two_slots_share_a_cpu(gpus: int, per_run: int, contexts: int, threads: int, sockets: int) -> None:
    # given a machine that can be divided
    runs = gpus * contexts if gpus else 8
    cores = runs * per_run
    code = AffinityCode(
        n_cpu_core=cores,
        n_gpu=gpus,
        contexts_per_gpu=contexts,
        cpu_per_run=1 if gpus else per_run,
        hyperthread_offset=cores * threads,
        n_socket=sockets if runs % sockets == 0 else 1,
    ).encode()
    # when every slot's CPUs are put together
    used = [cpu for slot in range(runs) for cpu in all_cpus(affinity_from_code(prepend_run_slot(slot, code)))]
    # then each of the machine's CPUs is there once
    assert sorted(used) == list(range(cores * (1 + threads)))
