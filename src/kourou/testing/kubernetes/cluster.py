"""The cluster, as a test has it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kourou import threads
from kourou.runtime.node_environment import matching_variables
from kourou.testing.kubernetes import kubectl
from kourou.testing.kubernetes.controllers import Controllers
from kourou.testing.kubernetes.kubelet import Image, Network, Sandbox, Unmountable, decoded

if TYPE_CHECKING:
    from typing_extensions import Self

_TICK_S = 0.05
_IMAGE = ("PATH", "LANG", "LC_*", "PYTHON*", "LD_LIBRARY*", "KOUROU_CONTRACT", "COVERAGE*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FakePod:
    """A pod, as it was when it was asked for."""

    name: str
    phase: str
    node: str
    address: str
    restarts: int
    deleting: bool
    log: Path
    """What its container printed."""


class FakeCluster:
    """A cluster on this host, and a ``kubectl`` that leads to it; Linux, as root. Use it in a ``with``.

    An image is this host: its files, and the variables of whoever applied that Python needs. Users and groups are as
    the manifests say, if this process's Python can be run by others.

    Args:
        nodes: name → resource → how much of it there is.
        validate: raises for an object that is to be refused.
        held: Kueue's queues that admit nothing, with what Kueue says: :meth:`admit` ends that.
        hidden: folders of this host that are not in images.
    """

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, float]] | None = None,
        *,
        validate: Callable[[Mapping[str, Any]], object] = lambda _: None,
        held: Mapping[str, str] | None = None,
        hidden: Sequence[Path] = (),
    ) -> None:
        self._hidden = hidden
        plenty = {"cpu": 64.0, "memory": 2.0**40, "ephemeral-storage": 2.0**40}
        self._held = dict(held or {})
        self._controllers = Controllers(
            nodes or {f"node{number}": plenty for number in range(3)}, self._make_sandbox, self._held
        )
        self._validate = validate
        self._temporary = tempfile.TemporaryDirectory(prefix="kourou-cluster-")
        self._folder = Path(self._temporary.name)
        self._folder.chmod(0o755)
        self._hosts = self._folder / "hosts"
        self._hosts.write_text("127.0.0.1 localhost\n", encoding="ascii")
        for name in ("bin", "logs", "pods", "claims"):
            (self._folder / name).mkdir()
        self._names: dict[str, str] = {}
        self._environ: dict[str, str] = {}
        self._as_user = _others_can_run(sys.executable, __file__)
        self._lock = threading.RLock()
        self._closing = False
        self._failure: BaseException | None = None
        self.applied: list[dict[str, Any]] = []
        """Every object that was handed over, as it was."""

    def __enter__(self) -> Self:
        number = secrets.randbelow(1 << 14)
        self._network = Network(f"kf{secrets.token_hex(3)}", f"10.{64 + number // 256}.{number % 256}")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self._folder / "socket"))
        self._socket.listen()
        self._socket.settimeout(_TICK_S)
        command = self._folder / "bin" / "kubectl"
        text = kubectl.COMMAND.format(python=sys.executable, socket=str(self._folder / "socket"))
        command.write_text(text.replace("\\\\n", "\\n"), encoding="utf-8")
        command.chmod(0o755)
        self._thread = threading.Thread(target=self._serve, name="kourou-fake-cluster")
        threads.start(self._thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._thread.join()
        for sandbox in self._controllers.sandboxes.values():
            sandbox.close()
        self._network.close()
        self._temporary.cleanup()
        if self._failure is not None:
            raise self._failure

    @property
    def path(self) -> str:
        """The folder to put first in PATH, so that ``kubectl`` is this cluster's."""
        return str(self._folder / "bin")

    def make_claim(self, name: str) -> Path:
        """A volume that many pods may write: its folder."""
        folder = self._folder / "claims" / name
        folder.mkdir()
        return folder

    def pods(self, name: str = "") -> list[FakePod]:
        """Those that have this in their names; the oldest first."""
        with self._lock:
            return [self._seen(pod) for each, pod in self._controllers.objects["pod"].items() if name in each]

    def kinds(self) -> dict[str, list[str]]:
        """What there is, by kind: names."""
        with self._lock:
            return {kind: list(each) for kind, each in self._controllers.objects.items() if each}

    def delete_pod(self, name: str) -> None:
        """``kubectl delete pod``: SIGTERM, and after its grace SIGKILL."""
        with self._lock:
            self._controllers.delete("pod", name)

    def evict(self, name: str) -> None:
        """The same, by whoever drains its node or preempts it."""
        with self._lock:
            conditions = self._controllers.objects["pod"][name]["status"].setdefault("conditions", [])
            conditions.append({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"})
            self._controllers.delete("pod", name)

    def kill(self, name: str) -> None:
        """Kill its container, as the out-of-memory killer does."""
        with self._lock:
            self._controllers.sandboxes[name].signal(signal.SIGKILL)

    def admit(self, queue: str) -> None:
        """Kueue lets what waits in this queue begin."""
        with self._lock:
            del self._held[queue]

    def _seen(self, pod: Mapping[str, Any]) -> FakePod:
        status, name = pod["status"], pod["metadata"]["name"]
        return FakePod(
            name=name,
            phase=status["phase"],
            node=pod["spec"].get("nodeName", ""),
            address=status.get("podIP", ""),
            restarts=sum(each["restartCount"] for each in status.get("containerStatuses", ())),
            deleting="deletionTimestamp" in pod["metadata"],
            log=Path(self._log_of(name)),
        )

    def _serve(self) -> None:
        try:
            while not self._closing:
                with contextlib.suppress(socket.timeout), self._socket.accept()[0] as caller:
                    caller.settimeout(None)
                    self._answer(caller)
                with self._lock:
                    self._controllers.step()
        except BaseException as error:  # noqa: BLE001 - whoever closes the cluster is told
            self._failure = error
        self._socket.close()  # no kubectl waits any more

    def _answer(self, caller: socket.socket) -> None:
        with caller.makefile("rw", encoding="utf-8") as file:
            asked = json.loads(file.readline())
            with self._lock:
                if "environ" in asked:
                    self._environ = matching_variables(asked["environ"], _IMAGE)
                told = kubectl.answer(asked, self._controllers, validate=self._check, log_of=self._log_of)
            file.write(json.dumps(told) + "\n")

    def _check(self, document: Mapping[str, Any]) -> None:
        self._validate(document)
        self.applied.append(json.loads(json.dumps(document)))

    def _make_sandbox(self, pod: Mapping[str, Any]) -> Sandbox:
        name = pod["metadata"]["name"]
        path = os.pathsep.join(each for each in self._environ["PATH"].split(os.pathsep) if each != self.path)
        env = {**self._environ, "PATH": path, "HOME": "/"}
        image = Image(env=env, as_user=self._as_user, hidden=self._hidden)
        sandbox = Sandbox(
            pod,
            folder=self._folder / "pods" / name,
            network=self._network,
            secret=self._secret,
            hosts=self._hosts,
            image=image,
            log=Path(self._log_of(name)),
        )
        own = pod["spec"]["hostname"]
        self._names[f"{own}.{pod['spec']['subdomain']} {own}"] = sandbox.address
        lines = [f"{address} {names}" for names, address in {"localhost": "127.0.0.1", **self._names}.items()]
        self._hosts.write_text("\n".join([*lines, ""]), encoding="ascii")  # the same file: it is mounted
        return sandbox

    def _secret(self, name: str) -> Mapping[str, bytes]:
        there = self._controllers.objects["secret"].get(name)
        if there is None:
            raise Unmountable(f'secret "{name}" not found')
        return decoded(there)

    def _log_of(self, name: str) -> str:
        return str(self._folder / "logs" / f"{name}.log")


def _others_can_run(*files: str) -> bool:
    """Whether everybody may read these, and all that leads to them."""
    for file in files:
        path = Path(file).resolve()
        if not path.stat().st_mode & 0o004 or not all(folder.stat().st_mode & 0o001 for folder in path.parents):
            return False
    return True
