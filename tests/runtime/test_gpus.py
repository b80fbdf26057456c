"""What the driver tells of GPUs, and what is made of it. No real GPU was asked: NVML and nvidia-smi are fakes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import kourou as lp
from kourou.errors import PlanError
from kourou.runtime.model.gpus import Gpu, GpuMemory, read_gpus
from kourou.runtime.model.inventory import Inventory
from kourou.runtime.plan.compile import compile_program
from kourou.testing.nvml import FakeGpu, fake_nvml

GIB = 1 << 30
FIRST, SECOND = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1f2e0000-0000-4000-8000-000000000002"
PART, OTHER = "MIG-61e50000-0000-5000-8000-00000000000a", "MIG-61e50000-0000-5000-8000-00000000000b"
DIVIDED = FakeGpu(
    uuid=SECOND, parts=(FakeGpu(uuid=PART, total_bytes=10 * GIB, free_bytes=9 * GIB), FakeGpu(uuid=OTHER))
)


@pytest.fixture
def no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an nvidia-smi may be put; there is no other."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_without_a_mask_gpus_are_known_by_their_uuids() -> None:
    with fake_nvml([FakeGpu(uuid=FIRST, can_be_divided=False), FakeGpu(uuid=SECOND)]):
        assert Inventory.of_this_process({}).gpus == (FIRST, SECOND)
        assert Inventory.of_this_process({}, with_gpus=False).gpus == ()


def test_a_mask_counts_as_it_stands() -> None:
    with fake_nvml([FakeGpu(uuid=FIRST), DIVIDED]):
        for mask in ("1", f"{PART},{FIRST}", f"MIG-{SECOND}/7/0"):
            assert Inventory.of_this_process({"CUDA_VISIBLE_DEVICES": mask}).gpus == tuple(mask.split(","))
        assert Inventory.of_this_process({"CUDA_VISIBLE_DEVICES": ""}).gpus == ()


def test_of_a_divided_gpu_there_are_its_parts() -> None:
    with fake_nvml([FakeGpu(uuid=FIRST, total_bytes=None), DIVIDED]):
        whole, part, other = read_gpus()
    assert whole == Gpu(names=(FIRST, "0"), memory=None)
    assert part == Gpu(names=(PART, f"MIG-{SECOND}/7/0"), memory=GpuMemory(total_bytes=10 * GIB, free_bytes=9 * GIB))
    assert other.names == (OTHER, f"MIG-{SECOND}/8/0")


def test_nodes_get_parts_by_their_uuids_and_no_more_than_there_are() -> None:
    program = lp.Program("gpus")
    with program.group("worker"):
        for _ in range(3):
            program.add_node(lp.PyNode(print))
    with fake_nvml([FakeGpu(uuid=FIRST), DIVIDED]), pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        plan = compile_program(program, "local_mp", local_resources={"worker": lp.Resources(gpus=1)})
        given = [dict(node.process.env)["CUDA_VISIBLE_DEVICES"] for node in plan.nodes if node.process]
        assert given == [FIRST, PART, OTHER]
        with pytest.raises(PlanError, match=f"the launcher may use 3 \\({FIRST}, {PART}, {OTHER}\\)"):
            compile_program(program, "local_mp", local_resources={"worker": lp.Resources(gpus=2)})


def test_without_the_library_nvidia_smi_is_asked(no_tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_gpus() == ()
    tool = no_tool / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '0, {FIRST}, 24576, 24000'\necho '1, {SECOND}, [N/A], [N/A]'\n")
    tool.chmod(0o755)
    assert read_gpus() == (
        Gpu(names=(FIRST, "0"), memory=GpuMemory(total_bytes=24 * GIB, free_bytes=24000 << 20)),
        Gpu(names=(SECOND, "1")),
    )
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert read_gpus() == ()


def test_a_library_without_a_driver_is_none(no_tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert read_gpus() == ()
    else:
        pynvml.nvmlShutdown()
        assert all(gpu.names[0].startswith(("GPU-", "MIG-")) for gpu in read_gpus())
