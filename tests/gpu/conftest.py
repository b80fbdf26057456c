"""All tests of this folder need an NVIDIA GPU, and a torch that can use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from optional import is_there, optional

torch = optional("torch")


@pytest.fixture(autouse=True)
def _device() -> None:
    if not Path("/dev/nvidiactl").exists():
        pytest.skip("no NVIDIA GPU is here")
    if not is_there("torch") or not torch.cuda.is_available():
        pytest.skip("torch is not here, or cannot use the GPU")
