"""Affinity codes: how a machine is divided among runs, in one word such as ``8cpu_2gpu_2cxg``.

The words are those of rlpyt, so that codes in existing scripts keep their meaning.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import psutil

from kourou.experiments.failures import AffinityError

_WORD = re.compile(r"(\d+)([a-z]{3})", re.ASCII)
_FIELDS = {
    "slt": "run_slot",
    "cpu": "n_cpu_core",
    "gpu": "n_gpu",
    "cxg": "contexts_per_gpu",
    "gpr": "gpu_per_run",
    "cpr": "cpu_per_run",
    "cpw": "cpu_per_worker",
    "hto": "hyperthread_offset",
    "skt": "n_socket",
    "res": "cpu_reserved",
    "ass": "async_sample",
    "sgr": "sample_gpu_per_run",
    "oss": "optim_sample_share_gpu",
    "alt": "alternating",
    "saf": "set_affinity",
}
_AT_LEAST_ONE = ("n_cpu_core", "contexts_per_gpu", "gpu_per_run", "cpu_per_run", "cpu_per_worker", "n_socket")
_AT_LEAST_ZERO = ("n_gpu", "hyperthread_offset", "cpu_reserved", "sample_gpu_per_run")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AffinityCode:
    """How a machine is divided among runs. The numbers are whole machines' or runs', as each field says."""

    n_cpu_core: int
    """Physical cores that the runs of this machine share."""
    n_gpu: int
    """GPUs that they share; 0: runs on CPUs only."""
    contexts_per_gpu: int = 1
    """Runs that share one GPU."""
    gpu_per_run: int = 1
    """GPUs of one run: more than one for synchronous multi-GPU training."""
    cpu_per_run: int = 1
    """Cores of one run; counts only without GPUs, since with them the cores are divided evenly."""
    cpu_per_worker: int = 1
    """Cores of each of a run's sampling workers."""
    hyperthread_offset: int
    """What to add to a core's number for that of its second thread; 0: cores have one thread."""
    n_socket: int = 1
    """CPU sockets; a run stays on one where it can."""
    cpu_reserved: int = 0
    """Cores of each run that its workers leave to its master."""
    async_sample: bool = False
    """Whether sampling and optimization go on side by side, on cores of their own."""
    sample_gpu_per_run: int = 0
    """GPUs that the samplers of one asynchronous run get."""
    optim_sample_share_gpu: bool = False
    """Whether the samplers of an asynchronous run use the GPUs of its optimizer."""
    alternating: bool = False
    """Whether there are two workers for each group of cores, which take turns."""
    set_affinity: bool = True
    """Whether the run's processes pin themselves."""
    run_slot: int | None = None
    """Which of the places for runs this is, from 0; None: the code speaks of all."""

    def __post_init__(self) -> None:
        for field in (*_AT_LEAST_ONE, *_AT_LEAST_ZERO):
            lowest, value = int(field in _AT_LEAST_ONE), getattr(self, field)
            if not isinstance(value, int) or value < lowest:
                raise AffinityError(f"{field} is a whole number of at least {lowest}, got {value!r}")
        self._check_combination()
        if self.run_slot is not None and not 0 <= self.run_slot < self.n_run_slots:
            raise AffinityError(
                f"run_slot {self.run_slot} is none of the {self.n_run_slots} slots of "
                f"{dataclasses.replace(self, run_slot=None).encode()} (they count from 0)"
            )

    def _check_combination(self) -> None:
        if 0 < self.hyperthread_offset < self.n_cpu_core:
            raise AffinityError(
                f"hyperthread_offset {self.hyperthread_offset} is less than n_cpu_core {self.n_cpu_core}: "
                "the second threads' numbers would be those of other cores"
            )
        if self.n_gpu == 0 and (self.async_sample or self.sample_gpu_per_run or self.optim_sample_share_gpu):
            raise AffinityError("asynchronous sampling (async_sample and its options) needs a GPU, n_gpu is 0")
        if self.contexts_per_gpu > 1 and self.n_gpu and (self.gpu_per_run > 1 or self.async_sample):
            raise AffinityError(
                f"contexts_per_gpu {self.contexts_per_gpu} lets runs share a GPU, which neither a run on "
                f"gpu_per_run {self.gpu_per_run} GPUs nor an asynchronous one can: use contexts_per_gpu=1"
            )

    @property
    def n_run_slots(self) -> int:
        """Runs that the machine holds at once."""
        if self.n_gpu == 0:
            return self.n_cpu_core // self.cpu_per_run
        if self.async_sample:
            return self.n_gpu // self.async_gpus
        return self.n_gpu * self.contexts_per_gpu // self.gpu_per_run

    @property
    def async_gpus(self) -> int:
        """GPUs of one asynchronous run."""
        return self.gpu_per_run + (0 if self.optim_sample_share_gpu else self.sample_gpu_per_run)

    @property
    def sampling_gpus(self) -> int:
        """How many GPUs the samplers of one asynchronous run use, be they the optimizers' or their own."""
        return self.gpu_per_run if self.optim_sample_share_gpu else self.sample_gpu_per_run

    def encode(self) -> str:
        """The code, as rlpyt writes it: what has its usual value is left out."""
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        usual["hyperthread_offset"] = self.n_cpu_core
        usual["cpu_per_run"] = self.cpu_per_run if self.n_gpu else None  # always written where it counts
        values = ((word, getattr(self, field), usual[field]) for word, field in _FIELDS.items())
        return "_".join(f"{int(value)}{word}" for word, value, default in values if value != default)

    @classmethod
    def decode(cls, code: str) -> AffinityCode:
        """Read a code.

        Raises:
            AffinityError: a word that codes do not have, or numbers that have no meaning.
        """
        numbers = decode_affinity(code)
        missing = [word for word in ("cpu", "gpu") if word not in numbers]
        if missing:
            raise AffinityError(f"affinity code {code!r} does not say how many {' and '.join(missing)} there are")
        flags = {"ass", "oss", "alt", "saf"}
        values: dict[str, Any] = {_FIELDS[word]: bool(n) if word in flags else n for word, n in numbers.items()}
        values.setdefault("hyperthread_offset", numbers["cpu"])
        return cls(**values)


def encode_affinity(  # noqa: PLR0913, PLR0917 - rlpyt's signature, on which scripts rely
    n_cpu_core: int = 1,
    n_gpu: int = 0,
    contexts_per_gpu: int = 1,
    gpu_per_run: int = 1,
    cpu_per_run: int = 1,
    cpu_per_worker: int = 1,
    cpu_reserved: int = 0,
    hyperthread_offset: int | None = None,
    n_socket: int | None = None,
    run_slot: int | None = None,
    async_sample: bool = False,  # noqa: FBT001, FBT002 - rlpyt's signature
    sample_gpu_per_run: int = 0,
    optim_sample_share_gpu: bool = False,  # noqa: FBT001, FBT002 - rlpyt's signature
    alternating: bool = False,  # noqa: FBT001, FBT002 - rlpyt's signature
    set_affinity: bool = True,  # noqa: FBT001, FBT002 - rlpyt's signature
) -> str:
    """Write how a machine is divided among runs as one word; the arguments are the fields of ``AffinityCode``.

    ``hyperthread_offset=None`` and ``n_socket=None`` ask this machine.

    Raises:
        AffinityError: numbers that have no meaning.
    """
    return AffinityCode(
        n_cpu_core=n_cpu_core,
        n_gpu=n_gpu,
        contexts_per_gpu=contexts_per_gpu,
        gpu_per_run=gpu_per_run,
        cpu_per_run=cpu_per_run,
        cpu_per_worker=cpu_per_worker,
        cpu_reserved=cpu_reserved,
        hyperthread_offset=_hyperthread_offset() if hyperthread_offset is None else hyperthread_offset,
        n_socket=_n_socket() if n_socket is None else n_socket,
        run_slot=run_slot,
        async_sample=async_sample,
        sample_gpu_per_run=sample_gpu_per_run,
        optim_sample_share_gpu=optim_sample_share_gpu,
        alternating=alternating,
        set_affinity=set_affinity,
    ).encode()


def decode_affinity(code: str) -> dict[str, int]:
    """The numbers of a code by their three letters: ``"8cpu_2gpu"`` → ``{"cpu": 8, "gpu": 2}``.

    Raises:
        AffinityError: a word that codes do not have.
    """
    numbers: dict[str, int] = {}
    for word in code.split("_"):
        match = _WORD.fullmatch(word)
        if match is None or match[2] not in _FIELDS:
            raise AffinityError(
                f"Unrecognized affinity code abbreviation: {word!r} in {code!r}; "
                f"a word is a number and one of {', '.join(_FIELDS)}"
            )
        if match[2] in numbers:
            raise AffinityError(f"affinity code {code!r} says {match[2]} twice")
        numbers[match[2]] = int(match[1])
    return numbers


def get_n_run_slots(affinity_code: str) -> int:
    """How many runs the machine of a code holds at once."""
    return AffinityCode.decode(affinity_code).n_run_slots


def prepend_run_slot(run_slot: int, affinity_code: str) -> str:
    """The code of one slot: ``1, "8cpu_2gpu"`` → ``"1slt_8cpu_2gpu"``.

    Raises:
        AffinityError: the code has a slot already, or has fewer slots.
    """
    if "slt" in decode_affinity(affinity_code):
        raise AffinityError(f"affinity code {affinity_code!r} has a run slot already")
    slot_code = f"{run_slot}slt_{affinity_code}"
    AffinityCode.decode(slot_code)
    return slot_code


def remove_run_slot(slot_affinity_code: str) -> tuple[int, str]:
    """Undo ``prepend_run_slot``: the slot, and the code without it.

    Raises:
        AffinityError: the code does not begin with a slot.
    """
    slot, _, code = slot_affinity_code.partition("_")
    if not slot.endswith("slt"):
        raise AffinityError(f"affinity code {slot_affinity_code!r} does not begin with a run slot, such as 0slt_")
    return decode_affinity(slot)["slt"], code


def _hyperthread_offset() -> int:
    """What this machine adds to a core's number for its second thread's; 0 where cores have one thread."""
    threads, cores = psutil.cpu_count() or 1, psutil.cpu_count(logical=False) or 1
    return threads // 2 if threads != cores and threads % 2 == 0 else 0


def _n_socket() -> int:
    """CPU sockets of this machine: 1 where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123 - read line by line
            return max(1, len({line for line in lines if line.startswith("physical id")}))
    except OSError:
        return 1
