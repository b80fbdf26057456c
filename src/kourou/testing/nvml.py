"""A fake of NVIDIA's management library, for tests of what hands out GPUs on machines that have none."""

# ruff: noqa: N802 - the functions are called as NVML calls them

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType, SimpleNamespace
from unittest import mock

__all__ = ["FakeGpu", "fake_nvml"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FakeGpu:
    """A GPU, or one of the parts that MIG makes of one."""

    uuid: str
    """``GPU-…``; ``MIG-…`` for a part."""
    total_bytes: int | None = 80 << 30
    """None: it does not tell, as those that share the host's memory."""
    free_bytes: int = 80 << 30
    parts: Sequence[FakeGpu] | None = None
    """Those that MIG has made of it; None: it is whole."""
    can_be_divided: bool = True
    """Whether the driver knows of MIG for it."""


@contextlib.contextmanager
def fake_nvml(gpus: Sequence[FakeGpu]) -> Iterator[ModuleType]:
    """In the body, this process's ``pynvml`` tells of these GPUs, and fails as the driver's library does.

    It knows what kourou asks for and nothing else. The body fails where the library is left open.
    """
    library = _Library(gpus)
    module = ModuleType("pynvml")
    vars(module).update({name: getattr(library, name) for name in dir(library) if name.startswith("nvml")})
    vars(module).update(NVMLError=_NvmlError, NVML_DEVICE_MIG_ENABLE=1)
    with mock.patch.dict(sys.modules, {"pynvml": module}):
        yield module
    if library.users:
        raise AssertionError(f"NVML was initialized {library.users} times more than it was shut down")


class _NvmlError(Exception):
    pass


class _Library:
    def __init__(self, gpus: Sequence[FakeGpu]) -> None:
        self._gpus = gpus
        self.users = 0

    def nvmlInit(self) -> None:
        self.users += 1

    def nvmlShutdown(self) -> None:
        self._check()
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._check()
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        self._check()
        return self._gpus[index]

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        self._check()
        return gpu.uuid

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> SimpleNamespace:
        self._check()
        if gpu.total_bytes is None:
            raise _NvmlError("Not Supported")
        return SimpleNamespace(total=gpu.total_bytes, free=gpu.free_bytes, used=gpu.total_bytes - gpu.free_bytes)

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:
        self._check()
        if not gpu.can_be_divided:
            raise _NvmlError("Not Supported")
        return [int(gpu.parts is not None)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:
        self._check()
        return 7 if gpu.parts is not None else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> FakeGpu:
        self._check()
        parts = gpu.parts or ()
        if index >= len(parts):
            raise _NvmlError("Not Found")
        return parts[index]

    def nvmlDeviceGetGpuInstanceId(self, part: FakeGpu) -> int:
        self._check()
        return 7 + next(i for gpu in self._gpus for i, own in enumerate(gpu.parts or ()) if own is part)

    def nvmlDeviceGetComputeInstanceId(self, part: FakeGpu) -> int:
        self._check()
        del part
        return 0

    def _check(self) -> None:
        if not self.users:
            raise _NvmlError("Uninitialized")
