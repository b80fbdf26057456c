"""Who gets which CPUs and GPUs."""

from __future__ import annotations

import os

from hypothesis import given, strategies as st

import kourou as lp
from kourou.errors import GraphError, PlanError
from kourou.runtime.model.inventory import Inventory, Request, allocate
from kourou.runtime.plan.compile import compile_program
from optional import pytest

TWO_GPUS = Inventory.of_this_process({"CUDA_VISIBLE_DEVICES": "2,3"})


def requests(*gpus: float | None) -> list[Request]:
    return [Request(name=f"a/{index}", gpus=amount) for index, amount in enumerate(gpus)]


@pytest.mark.parametrize(
    ("mask", "gpus"),
    [
        ("2,3", ("2", "3")),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", ("0",)),
        (" 1 , 0 ", ("1", "0")),
        ("0,0", ("0",)),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,1", ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "1")),
        ("MIG-GPU-8932f937/1/0", ("MIG-GPU-8932f937/1/0",)),
        ("nonsense", ()),
    ],
)
def test_the_launchers_own_mask_says_what_there_is(mask, gpus):
    assert Inventory.of_this_process({"CUDA_VISIBLE_DEVICES": mask}).gpus == gpus


def test_the_launchers_own_affinity_says_which_cpus_there_are():
    assert Inventory.of_this_process({}).cpus == tuple(sorted(os.sched_getaffinity(0)))


def test_whole_gpus_are_disjoint_and_fractions_share_what_is_left():
    # Given three GPUs, two halves asked for before one whole
    inventory = Inventory(cpus=(0,), gpus=("0", "1", "2"))
    # When they are handed out
    given_out = allocate(requests(0.5, 0.5, 1, 0, None, 0.25), inventory)
    # Then the whole one is nobody else's, the halves share one, and 0 is none at all
    assert [given_out[f"a/{i}"].gpus for i in range(6)] == [("1",), ("1",), ("0",), (), None, ("2",)]


def test_asking_for_more_than_there_is_says_who_asks():
    with pytest.raises(PlanError, match=r"4 GPUs are asked for \(a 4×1\), but the launcher may use 2 \(2, 3\)"):
        allocate(requests(1, 1, 1, 1), TWO_GPUS)


def test_where_there_are_none_there_is_nothing_to_share():
    with pytest.raises(PlanError, match=r"may use 0 \(none\): ask for none, or launch where there are some"):
        allocate(requests(1), Inventory(cpus=(0,), gpus=()))


def test_halves_that_do_not_fit_beside_wholes_are_too_much():
    with pytest.raises(PlanError):
        allocate(requests(1, 1, 0.1), TWO_GPUS)


@given(st.lists(st.sampled_from([0.1, 0.25, 0.5, 1, 2, 3]), max_size=12), st.integers(0, 6))
def test_no_device_is_handed_out_twice(amounts, count):
    inventory = Inventory(cpus=(0,), gpus=tuple(str(i) for i in range(count)))
    try:
        given_out = allocate(requests(*amounts), inventory)
    except PlanError:
        assert sum(max(1, int(amount)) for amount in amounts) > count  # there was not one for each
        return
    load = dict.fromkeys(inventory.gpus, 0.0)
    for index, amount in enumerate(amounts):
        mine = given_out[f"a/{index}"].gpus
        assert mine is not None
        assert len(mine) == max(1, int(amount))
        for device in mine:
            load[device] += min(1.0, amount)
    assert all(used <= 1.0 + 1e-9 for used in load.values())


def program_of(function, count: int) -> lp.Program:
    program = lp.Program("devices")
    with program.group("worker"):
        for _ in range(count):
            program.add_node(lp.PyNode(function))
    return program


def test_four_nodes_with_a_gpu_each_fail_in_the_plan():
    with pytest.raises(PlanError, match="4 GPUs are asked for"):
        compile_program(
            program_of(print, 4),
            "local_mp",
            local_resources={"worker": lp.Resources(gpus=1)},
            inventory=TWO_GPUS,
        )


def test_gpus_and_a_mask_of_ones_own_contradict_each_other():
    resources = {"worker": lp.Resources(gpus=1, env={"CUDA_VISIBLE_DEVICES": "7"})}
    with pytest.raises(PlanError, match="not both"):
        compile_program(program_of(print, 1), "local_mp", local_resources=resources, inventory=TWO_GPUS)


@pytest.mark.parametrize("amount", [1.5, -1, "one", True, float("nan")])
def test_amounts_that_mean_nothing_are_refused(amount):
    with pytest.raises(GraphError):
        lp.Resources(gpus=amount).amount("gpus", 0)


def show() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    print(os.environ["CUDA_VISIBLE_DEVICES"], cpus, os.environ["OMP_NUM_THREADS"], os.environ["INDEX"])


@pytest.mark.usefixtures("no_leaks")
def test_nodes_with_half_a_gpu_see_only_theirs(monkeypatch):
    # Given four nodes that ask for half a GPU and half a CPU each, on two of each
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cpus = tuple(sorted(os.sched_getaffinity(0)))[:2]
    resources = lp.Resources(gpus=0.5, cpus=len(cpus) / 4, env=lambda index: {"INDEX": index})
    run = lp.launch(
        program_of(show, 4),
        "local_mp",
        local_resources={"worker": resources},
        inventory=Inventory(cpus=cpus, gpus=("2", "3")),
    )
    # When they run
    run.wait(timeout_s=30)
    # Then each sees one of the two, and two see the same
    lines = [(run.folder / "logs" / "worker" / f"{i}.log").read_text().split(" ", 1) for i in range(4)]
    assert [gpu for gpu, _ in lines] == ["2", "2", "3", "3"]
    assert [rest.rsplit(" ", 1)[1].strip() for _, rest in lines] == ["0", "1", "2", "3"]
    assert all(rest.rsplit(" ", 2)[1] == "1" for _, rest in lines)


def hoard() -> None:
    kept = []
    while True:
        kept.append(bytearray(8 << 20))


@pytest.mark.usefixtures("no_leaks")
def test_a_node_that_passes_its_memory_limit_is_named():
    with pytest.raises(lp.errors.ProgramFailed, match=r"worker/0 took \d+ MiB of memory, past its limit of 256 MiB"):
        lp.launch(
            program_of(hoard, 1), "local_mp", local_resources={"worker": lp.Resources(memory_bytes=256 << 20)}
        ).wait(timeout_s=30)
