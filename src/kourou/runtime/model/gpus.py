"""This host's NVIDIA GPUs, as its driver tells of them: by UUID, since numbers mean other devices in a container.

The driver is asked through its library NVML (the package nvidia-ml-py, extra ``gpu``), else through ``nvidia-smi``,
which knows no parts of GPUs that MIG has divided. Neither initializes CUDA, and nothing is left open.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_TOOL = "nvidia-smi"
_QUERY = ("--query-gpu=index,uuid,memory.total,memory.free", "--format=csv,noheader,nounits")
_LINE = re.compile(r"^(\d+), (GPU-[\w-]+), (.+), (.+)$", re.MULTILINE)
_QUERY_TIMEOUT_S = 10.0
_ENTRY = re.compile(r"\d+|GPU-[\w-]+|MIG-[\w/-]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuMemory:
    """Memory of one GPU at one moment."""

    total_bytes: int
    free_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU, or a part of one that MIG has divided: something that one process may have for itself."""

    names: tuple[str, ...]
    """What CUDA_VISIBLE_DEVICES may call it, its UUID first. Numbers are nvidia-smi's: they are CUDA's where
    CUDA_DEVICE_ORDER is PCI_BUS_ID, or all GPUs are of one kind."""
    memory: GpuMemory | None = None
    """None: it does not tell."""


def read_gpus() -> tuple[Gpu, ...]:
    """All that this host has, in the order of their numbers; without a driver, none."""
    found = _ask_nvml()
    return tuple(_ask_tool() if found is None else found)


def masked(mask: str) -> tuple[str, ...]:
    """The entries of a CUDA_VISIBLE_DEVICES: CUDA reads it up to the first one that names no device, such as -1."""
    entries: list[str] = []
    for entry in (part.strip() for part in mask.split(",")):
        if not _ENTRY.fullmatch(entry) or entry in entries:
            break
        entries.append(entry)
    return tuple(entries)


def _ask_nvml() -> list[Gpu] | None:
    """None: there is no such library, or no driver behind it."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return [gpu for index in range(nvml.nvmlDeviceGetCount()) for gpu in _parts_of(nvml, index)]
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()


def _parts_of(nvml: ModuleType, index: int) -> Iterator[Gpu]:
    """The GPU of a number; where MIG has divided it, its parts in its place, since no process can have it whole."""
    whole = nvml.nvmlDeviceGetHandleByIndex(index)
    uuid = _text(nvml.nvmlDeviceGetUUID(whole))
    try:
        divided = nvml.nvmlDeviceGetMigMode(whole)[0] == nvml.NVML_DEVICE_MIG_ENABLE
    except nvml.NVMLError:  # most GPUs cannot be divided
        divided = False
    if not divided:
        yield Gpu(names=(uuid, str(index)), memory=_memory_of(nvml, whole))
        return
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(whole)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, number)
        except nvml.NVMLError:  # there may be more, and there are fewer
            continue
        place = f"{nvml.nvmlDeviceGetGpuInstanceId(part)}/{nvml.nvmlDeviceGetComputeInstanceId(part)}"
        names = (_text(nvml.nvmlDeviceGetUUID(part)), f"MIG-{uuid}/{place}")  # the last name: before driver 470
        yield Gpu(names=tuple(dict.fromkeys(names)), memory=_memory_of(nvml, part))


def _memory_of(nvml: ModuleType, device: Any) -> GpuMemory | None:
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
    except nvml.NVMLError:  # one that shares the host's
        return None
    return GpuMemory(total_bytes=int(memory.total), free_bytes=int(memory.free))


def _ask_tool() -> list[Gpu]:
    if shutil.which(_TOOL) is None:
        return []
    try:
        done = subprocess.run(
            [_TOOL, *_QUERY],
            check=False,
            capture_output=True,
            text=True,
            timeout=_QUERY_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [
        Gpu(names=(uuid, number), memory=_memory_in(total_mib, free_mib))
        for number, uuid, total_mib, free_mib in _LINE.findall(done.stdout)
    ]


def _memory_in(total_mib: str, free_mib: str) -> GpuMemory | None:
    if not (total_mib.isdecimal() and free_mib.isdecimal()):  # [N/A]
        return None
    return GpuMemory(total_bytes=int(total_mib) << 20, free_bytes=int(free_mib) << 20)


def _text(uuid: str | bytes) -> str:
    return uuid.decode() if isinstance(uuid, bytes) else uuid
