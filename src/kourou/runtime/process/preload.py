"""What a zygote imports before it forks, and the variables that libraries read when they are imported."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
import threading
from collections.abc import Collection, Mapping, Sequence

from kourou.cpython import imported


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preload:
    """What the processes of one kind find imported already.

    None of the modules may start anything that a fork cannot carry along: threads, channels, devices.
    """

    modules: tuple[str, ...] = ()
    """By name. None at all: only commands are run."""


COMMANDS = Preload()
"""For commands, which execute something else."""

NODES = Preload(
    modules=(
        "kourou.courier.lanes.grpc.client",
        "kourou.courier.lanes.grpc.server",
        "kourou.courier.lanes.inproc",
        "kourou.courier.lanes.local.client",
        "kourou.courier.lanes.local.server",
        "kourou.nodes.cacher",
        "kourou.nodes.colocation",
        "kourou.nodes.courier",
        "kourou.nodes.python",
        "kourou.nodes.replay",
        "kourou.nodes.torch",
        "kourou.nodes.weights",
        "kourou.runtime.context.checkpoints",
        "kourou.runtime.context.stop_functions",
        "kourou.runtime.metrics.log",
        "kourou.runtime.node_process.main",
        "kourou.runtime.node_process.serving",
        "multiprocessing.spawn",  # to tell children of the script
    ),
)
"""For nodes of a program: what every one of them would import by itself."""


def read_early(env: Mapping[str, str], libraries: Collection[str] = ()) -> dict[str, str]:
    """The variables that a starting interpreter, loader, allocator or library reads: a fork comes too late for them."""
    prefixes = (*_READ_AT_START, *(_READ_BY_LIBRARIES if libraries else ()))
    return {name: value for name, value in env.items() if name.startswith(prefixes)}


_READ_AT_START = (
    *("PYTHON", "LC_", "LANG", "OPENSSL_"),
    *("LD_", "DYLD_", "MALLOC_", "GLIBC_TUNABLES", "TCMALLOC_", "MIMALLOC_"),
)

# Numbers of threads, options of gRPC, NumPy and torch, backends of what draws, folders. Not the GPUs of a process,
# which are read when the first one is used.
_READ_BY_LIBRARIES = (
    *(
        "GRPC_",
        "OMP_",
        "GOMP_",
        "KMP_",
        "MKL_",
        "OPENBLAS_",
        "GOTO_",
        "BLIS_",
        "VECLIB_",
        "NUMEXPR_",
        "NUMBA_",
        "NPY_",
        "NUMPY_",
    ),
    *("TORCH", "PYTORCH", "ATEN_", "TRITON_", "NCCL_", "CUDA_HOME", "CUDA_PATH", "CUDA_MODULE_LOADING", "CUDNN_"),
    *("JAX_", "XLA_", "TF_", "MPL", "SDL_", "PYGAME_", "MUJOCO_", "PYOPENGL_"),
    *("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TMP", "TEMP", "XDG_"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A variable that was set by an import."""

    before: str | None
    after: str


def import_libraries(names: Sequence[str]) -> dict[str, Setting]:
    """Import modules of others, of which nobody knows for sure that they can be forked.

    Returns:
        The variables that they have set.

    Raises:
        SystemExit: one has started something that a fork does not carry along; it says what.
        Exception: whatever an import raised.
    """
    variables = dict(os.environ)
    for name in names:
        before = _channels()
        importlib.import_module(name)
        if found := _unforkable(before):
            sys.exit(f"importing {name} has {found}, which a fork does not carry along")
    return {
        name: Setting(before=variables.get(name), after=value)
        for name, value in os.environ.items()
        if variables.get(name) != value
    }


def _unforkable(before: Collection[str]) -> str:
    """What was begun that a fork does not carry along, in words; empty: nothing."""
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    # BLAS's threads are made for forks: they end before one, and begin again when there is something to multiply.
    threads = len(os.listdir(_THREADS)) if os.path.isdir(_THREADS) else threading.active_count()  # noqa: PTH112, PTH208
    if threads > 1:
        return f"started {threads - 1} threads"
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        return "started a process"
    return "".join(f"opened {where}" for where in sorted(_channels() - set(before))[:1])


def _channels() -> set[str]:
    """What this process has open that is no file: devices, sockets, pipes."""
    targets = set()
    with contextlib.suppress(OSError):
        for fd in os.listdir(_OPEN):  # noqa: PTH208 - names alone
            with contextlib.suppress(OSError):
                targets.add(os.readlink(f"{_OPEN}/{fd}"))  # noqa: PTH115 - the text is meant
    return {target for target in targets if target.startswith(_DEVICES) or not target.startswith("/")}


_THREADS, _OPEN = "/proc/self/task", "/proc/self/fd"
_DEVICES = ("/dev/nvidia", "/dev/dri", "/dev/kfd", "/dev/accel", "/dev/vfio")


def with_settings(env: Mapping[str, str], settings: Mapping[str, Setting]) -> dict[str, str]:
    """The environment that a process would have after these imports, had they been its own."""
    found = {name: setting.after for name, setting in settings.items() if env.get(name) == setting.before}
    return {**env, **found}


def reseed() -> None:
    """Give this forked process random numbers of its own, as one would have that imported its modules itself.

    NumPy and torch draw the seeds of their global generators when they are imported, and a fork inherits them. Python's
    own generator draws a new one in every fork; torch's for devices draw theirs when the device is first used.
    """
    if (numpy_random := imported("numpy.random")) is not None:
        numpy_random.seed()
    if (torch := imported("torch")) is not None:
        torch.default_generator.seed()
