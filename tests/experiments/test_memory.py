"""Memory of the host and of GPUs: what is asked for too much is refused, what is not free yet is waited for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.sweeping import by_name, happened, python_run, shell_run
from kourou import errors
from kourou.experiments import Retry
from kourou.experiments.journal.run_records import RunRecord, RunState
from kourou.experiments.sweep import free_memory
from kourou.experiments.sweep.dry_run import plan_sweep
from kourou.experiments.sweep.free_memory import GpuGate, GpuMemory, Memory, find_gpu, read_gpu_memory
from kourou.experiments.sweep.launch import run_sweep
from kourou.experiments.sweep.reporting import LineReporter
from kourou.experiments.sweep.scheduler import SweepOptions
from kourou.experiments.sweep.slots import Share, SlotPool, make_slots
from kourou.runtime.model.inventory import Inventory
from kourou.testing.nvml import FakeGpu, fake_nvml
from optional import pytest

GIB = 1 << 30
MACHINE = Inventory(cpus=tuple(range(8)), gpus=("0", "GPU-ab"))


class Gpus:
    """A fake of two GPUs of 24 GiB, whose free memory tests set."""

    def __init__(self, *free_gib: float) -> None:
        self.free_gib: Sequence[float] = free_gib
        self.looks = 0

    def __call__(self) -> dict[str, GpuMemory]:
        self.looks += 1
        names = ("0", "GPU-ab-12")
        return {
            name: GpuMemory(total_bytes=24 * GIB, free_bytes=int(free * GIB))
            for name, free in zip(names, self.free_gib, strict=False)
        }


def host(gpus: Gpus | None = None) -> Memory:
    return Memory(total_bytes=64 * GIB, read_gpus=gpus or Gpus(24, 24))


# -- the plan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (
            Share(parallel=3, memory_bytes=30 * GIB),
            "3 runs at once with 30.0 GiB of memory each need 90.0 GiB",
        ),
        (Share(memory_bytes=65 * GIB), "1 runs at once with 65.0 GiB of memory each need 65.0 GiB, but there are 64.0"),
        (
            Share(runs_per_gpu=3, gpu_memory_bytes=9 * GIB),
            "3 × 9.0 GiB of memory are asked for, but GPU 0 has",
        ),
        (Share(gpus_per_run=2, gpu_memory_bytes=25 * GIB), "25.0 GiB of memory are asked for, but GPU 0 has 24.0 GiB"),
    ],
)
def test_more_memory_than_there_is_is_a_mistake_of_the_plan(tmp_path: Path, share: Share, message: str) -> None:
    runs = [shell_run(tmp_path, "r", "true")]
    for launch in (plan_sweep, run_sweep):
        with pytest.raises(errors.PlanError, match=message):
            launch(runs, tmp_path / "sweep", share=share, inventory=MACHINE, memory=host())
    assert not (tmp_path / "sweep").exists()


def test_memory_of_gpus_that_nobody_tells_or_that_runs_do_not_get_is_no_plan() -> None:
    with pytest.raises(errors.PlanError, match="nothing tells the memory of GPU GPU-ab"):
        make_slots(Share(runs_per_gpu=1, gpu_memory_bytes=GIB), MACHINE, host(Gpus(24)))
    with pytest.raises(errors.PlanError, match="give runs_per_gpu or gpus_per_run"):
        Share(gpu_memory_bytes=GIB)


def test_there_are_no_more_places_than_there_is_memory_for() -> None:
    slots = make_slots(Share(memory_bytes=20 * GIB), MACHINE, host())
    assert [(slot.memory_bytes, slot.threads) for slot in slots] == [(20 * GIB, 2)] * 3


# -- the gate ---------------------------------------------------------------------------------------------------------


def test_a_run_goes_where_memory_is_free() -> None:
    share = Share(runs_per_gpu=2, gpu_memory_bytes=10 * GIB)
    slots = make_slots(share, MACHINE, host())
    gpus = Gpus(9, 15)
    pool = SlotPool(slots, gate=GpuGate(10 * GIB, host(gpus)))
    # when one GPU is taken by somebody else, and the other has room for one more
    taken = pool.acquire()
    assert taken.gpus == ("GPU-ab",)
    # then there is none for a second one, although that has not taken its memory yet
    assert not pool.has_room
    assert pool.refusal.split("; ") == [
        "GPU 0 has 9.0 GiB of memory free, and a run needs 10.0 GiB",
        "GPU GPU-ab has 5.0 GiB of memory free, and a run needs 10.0 GiB",
    ]
    # and when the first one has ended, there is, without a wait for the next look
    pool.release(taken)
    assert pool.acquire().gpus == ("GPU-ab",)


def test_the_claim_of_a_run_that_has_settled_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("kourou.experiments.sweep.free_memory.time.monotonic", lambda: now[0])
    gpus = Gpus(24)
    gate = GpuGate(10 * GIB, host(gpus))
    assert gate.refusal(("0",)) == ""
    gate.note_start(0, ("0",))
    gpus.free_gib = [14]  # it took its memory
    now[0] += 2
    assert "4.0 GiB of memory free" in gate.refusal(("0",))  # careful: perhaps somebody else did
    now[0] += 60
    assert gate.refusal(("0",)) == ""


def test_the_gpus_are_not_asked_all_the_time() -> None:
    gpus = Gpus(1)
    gate = GpuGate(2 * GIB, host(gpus))
    assert [bool(gate.refusal(("0",))) for _ in range(100)] == [True] * 100
    assert gpus.looks <= 2  # a second may pass meanwhile, on a busy machine


@pytest.mark.usefixtures("no_leaks")
def test_a_sweep_waits_for_memory_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpus = Gpus(4, 4)
    report = LineReporter(2)
    seen: list[RunRecord] = []

    def on_change(record: RunRecord) -> None:
        seen.append(record)
        report(record)
        if record.cause.startswith("waits"):
            gpus.free_gib = [24, 4]

    outcome = run_sweep(
        [shell_run(tmp_path, f"r{i}", f"exit 0 # {i}") for i in range(2)],
        tmp_path / "sweep",
        share=Share(runs_per_gpu=1, gpu_memory_bytes=8 * GIB),
        inventory=MACHINE,
        memory=host(gpus),
        on_change=on_change,
    )
    assert outcome.exit_code == 0
    assert [record.gpus for record in outcome.records] == [("0",), ("0",)]
    assert [record.cause for record in outcome.records] == ["succeeded", "succeeded"]
    waited = [record for record in seen if record.state is RunState.PENDING]
    assert [record.name for record in waited] == ["r0", "r1"]
    assert "waits: GPU 0 has 4.0 GiB of memory free, and a run needs 8.0 GiB" in waited[0].cause
    assert [kind for kind, _ in happened(tmp_path)].count("waiting") == len(waited)
    assert capsys.readouterr().err.startswith("[0/2] r0: waits: GPU 0 has")


# -- what a run takes -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leaks")
def test_a_run_that_takes_more_memory_than_its_share_is_killed_and_tried_again(tmp_path: Path) -> None:
    code = "import os, time; keep = os.urandom(200 << 20) if os.environ['KOUROU_RUN_ATTEMPT'] == '1' else 0; {}"
    greedy = python_run(tmp_path, "greedy", code.format("keep and time.sleep(60)"))
    modest = shell_run(tmp_path, "modest", "true")
    outcome = run_sweep(
        [greedy, modest],
        tmp_path / "sweep",
        share=Share(parallel=2, memory_bytes=150 << 20),
        options=SweepOptions(retry=Retry(times={"memory": 1}, backoff_s=0.01)),
    )
    assert outcome.exit_code == 0
    record = by_name(outcome)["greedy"]
    assert (record.attempt, record.retries) == (2, {"memory": 1})


# -- what is read -----------------------------------------------------------------------------------------------------


def test_what_nvml_tells_is_read_under_all_names() -> None:
    part = FakeGpu(uuid="MIG-61e5-a", total_bytes=10 * GIB, free_bytes=9 * GIB)
    with fake_nvml([FakeGpu(uuid="GPU-8932-f"), FakeGpu(uuid="GPU-1f2e-0", parts=[part])]):
        gpus = read_gpu_memory()
        slots = make_slots(
            Share(runs_per_gpu=2, gpu_memory_bytes=4 * GIB),
            Inventory.of_this_process({}),
            Memory(total_bytes=64 * GIB),
        )
    assert find_gpu(gpus, "GPU-8932") == find_gpu(gpus, "0") == GpuMemory(total_bytes=80 * GIB, free_bytes=80 * GIB)
    assert find_gpu(gpus, "MIG-61e5") == find_gpu(gpus, "MIG-GPU-1f2e-0/7/0")
    assert [slot.gpus for slot in slots] == [("GPU-8932-f",), ("MIG-61e5-a",)] * 2


def test_what_nvidia_smi_tells_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_gpu_memory() == {}
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "assert sys.argv[1] == '--query-gpu=index,uuid,memory.total,memory.free', sys.argv\n"
        "assert sys.argv[2] == '--format=csv,noheader,nounits', sys.argv\n"
        "print('0, GPU-8932f937-d72c-4106-c12f-20bd9faed9f6, 24576, 24000')\n"
        "print('1, GPU-1f2e, [N/A], [N/A]')\n"
    )
    tool.chmod(0o755)
    gpus = read_gpu_memory()
    assert gpus["0"] == GpuMemory(total_bytes=24 * GIB, free_bytes=24000 << 20)
    assert find_gpu(gpus, "GPU-8932f937") == gpus["0"]
    assert find_gpu(gpus, "1") is None
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed, because no driver answers'\nexit 9\n")
    assert read_gpu_memory() == {}


@pytest.mark.parametrize(
    ("own", "limits", "least"),
    [
        ("0::/user/job\n", {"user/memory.max": "2000\n", "user/job/memory.max": "max\n"}, 2000),
        ("4:memory:/job\n1:cpu:/\n", {"memory/job/memory.limit_in_bytes": "3000\n"}, 3000),
        ("0::/\n", {}, None),
    ],
)
def test_limits_of_control_groups_count(
    own: str, limits: dict[str, str], least: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in limits.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "own").write_text(own)
    without = Memory.of_this_process().total_bytes
    monkeypatch.setattr(free_memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(free_memory, "_OWN_CGROUP", tmp_path / "own")
    found = Memory.of_this_process().total_bytes
    assert found == least if least is not None else found >= without
