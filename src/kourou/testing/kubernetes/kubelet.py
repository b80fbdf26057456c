"""A pod's processes: in a network, a mount, a process and a host-name namespace of their own, as Linux has them."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

_LOG_LINES, _LOG_CHARACTERS = 80, 2048  # of a container that failed without a word
_WITH_PARENT = ("setpriv", "--pdeathsig=KILL")
# What the shell forks is process 1 of the new namespace; unlike `unshare --fork`, a shell tells which signal killed it.
_ENTER = ("unshare", "--mount", "--pid", "--uts", "/bin/sh", "-c", '"$@"; exit $?', "sh", *_WITH_PARENT)
_IP = (shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip",)


class Unmountable(Exception):
    """What a volume needs is not there (yet)."""


class Network:
    """A bridge, which this host has an address on; its owner closes it. Names end with something random."""

    def __init__(self, name: str, prefix: str) -> None:
        self.name, self.prefix = name, prefix
        self._count = 0
        _ip("link", "add", name, "type", "bridge")
        _ip("addr", "add", f"{prefix}.254/24", "dev", name)
        _ip("link", "set", name, "up")

    def add(self) -> tuple[str, str]:
        """A network namespace with an address on the bridge: its name, and the address."""
        self._count += 1
        space, address = f"{self.name}n{self._count}", f"{self.prefix}.{self._count}"
        outer = f"{self.name}v{self._count}"
        _ip("netns", "add", space)
        _ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", outer, "master", self.name, "up")
        _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        return space, address

    def remove(self, space: str) -> None:
        """The namespace is used no more."""
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", space)

    def close(self) -> None:
        """All of it."""
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image:
    """What every image is: this host, as far as it is seen in pods."""

    env: Mapping[str, str]
    as_user: bool
    """The user and the groups of manifests are taken: everybody can run what is here."""
    hidden: Sequence[Path]
    """Folders that are not in it."""


class Sandbox:
    """One pod on its node: volumes, an address, and a container, which may be started again.

    Args:
        pod: the object.
        folder: for its volumes; its own.
        network: where it is.
        secret: a Secret's files by name; raises :class:`Unmountable`.
        hosts: the file that stands for DNS.
        image: what it runs.
        log: where its container prints.
    """

    def __init__(
        self,
        pod: Mapping[str, Any],
        *,
        folder: Path,
        network: Network,
        secret: Callable[[str], Mapping[str, bytes]],
        hosts: Path,
        image: Image,
        log: Path,
    ) -> None:
        self._hidden = image.hidden
        self._pod, self._folder, self._network, self._hosts = pod, folder, network, hosts
        self._spec = pod["spec"]
        (self._container,) = self._spec["containers"]
        context = self._spec.get("securityContext", {})
        self._group = int(context.get("fsGroup", 0)) if image.as_user else os.getgid()
        self._user = context.get("runAsUser") if image.as_user else None
        self._log = log
        folder.mkdir(parents=True, exist_ok=True)
        self._last_words = folder / "last-words"
        self._volumes = {volume["name"]: self._make(volume, secret) for volume in self._spec.get("volumes", ())}
        self.space, self.address = network.add()
        self.environ = {**image.env, **self._environment()}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the container."""
        mounts = [
            "mount -t proc proc /proc",
            "mount -t tmpfs tmpfs /run",
            f"mount --bind {shlex.quote(str(self._hosts))} /etc/hosts",
        ]
        path = shlex.quote(self._container.get("terminationMessagePath", "/run/termination-log"))
        mounts.append(
            f"mkdir -p $(dirname {path}); touch {path}; mount --bind {shlex.quote(str(self._last_words))} {path}"
        )
        self._last_words.write_bytes(b"")
        self._last_words.chmod(0o666)
        mounts.append(f"hostname {shlex.quote(self._spec['hostname'])}")
        for mount in self._container.get("volumeMounts", ()):
            source, path = self._volumes[mount["name"]], shlex.quote(mount["mountPath"])
            what = "-t tmpfs -o mode=1777 tmpfs" if source is None else f"--bind {shlex.quote(str(source))}"
            mounts.append(f"mkdir -p {path}; mount {what} {path}")
        mounts += [f"mount -t tmpfs tmpfs {shlex.quote(str(folder))}" for folder in self._hidden]
        script = "; ".join(["set -e", *mounts, f"exec {shlex.join([*self.user_words(), *self._container['command']])}"])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_WITH_PARENT, *_IP, "netns", "exec", self.space, *_ENTER, "/bin/sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
                cwd="/",
                start_new_session=True,
            )

    def user_words(self) -> list[str]:
        """What makes a command one of the container's user."""
        if self._user is None:
            return []
        who = [f"--reuid={self._user}", f"--regid={self._user}", f"--groups={self._group}"]
        return ["setpriv", *who, "--no-new-privs", "--bounding-set=-all"]

    @property
    def first_process(self) -> int | None:
        """The container's process 1, by its number here."""
        if self._process is None or self._process.poll() is not None:
            return None
        with contextlib.suppress(psutil.Error):
            return next((child.pid for child in psutil.Process(self._process.pid).children()), None)
        return None

    def signal(self, number: int) -> None:
        """To the first process, which takes only what it has a handler for, or SIGKILL."""
        if (first := self.first_process) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, number)

    def exit_code(self) -> int | None:
        """Of the container; None while it runs."""
        assert self._process is not None
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def last_words(self, code: int) -> str:
        """The message that a container leaves which ended with this code."""
        text = self._last_words.read_text("utf-8", errors="replace")
        if text or code == 0 or self._container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return text
        return "\n".join(self._log.read_text("utf-8", errors="replace").splitlines()[-_LOG_LINES:])[-_LOG_CHARACTERS:]

    def close(self) -> None:
        """Kill what is left, and give everything back."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGKILL)
            deadline = time.monotonic() + 5
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            self._process.kill()
            self._process.wait()
        self._network.remove(self.space)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self, volume: Mapping[str, Any], secret: Callable[[str], Mapping[str, bytes]]) -> Path | None:
        """The folder of a volume; None: one in memory."""
        folder = self._folder / str(volume["name"])
        if "emptyDir" in volume:
            if volume["emptyDir"].get("medium") == "Memory":
                return None
            folder.mkdir(exist_ok=True)
            os.chown(folder, -1, self._group)
            folder.chmod(0o2777)
            return folder
        if "persistentVolumeClaim" in volume:
            claim = self._folder.parent.parent / "claims" / str(volume["persistentVolumeClaim"]["claimName"])
            if not claim.is_dir():
                raise Unmountable(f'persistentvolumeclaim "{claim.name}" not found')
            os.chown(claim, -1, self._group)
            claim.chmod(0o2775)
            return claim
        source = volume.get("projected") or volume
        files: dict[str, bytes] = {}
        for each in source.get("sources", [source]):
            of = each["secret"]
            there = secret(of.get("secretName") or of["name"])
            wanted = of.get("items") or [{"key": key, "path": key} for key in there]
            for item in wanted:
                if item["key"] not in there:
                    raise Unmountable(f"references non-existent secret key: {item['key']}")
                files[item["path"]] = there[item["key"]]
        mode = (volume.get("projected") or volume["secret"]).get("defaultMode", 0o644)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)
        for name, content in files.items():
            (folder / name).write_bytes(content)
            os.chown(folder / name, -1, self._group)
            (folder / name).chmod(mode)
        return folder

    def _environment(self) -> dict[str, str]:
        environ = {}
        for entry in self._container.get("env", ()):
            if "value" in entry:
                environ[entry["name"]] = entry["value"]
            else:
                environ[entry["name"]] = self._field(entry["valueFrom"]["fieldRef"]["fieldPath"])
        return environ

    def _field(self, path: str) -> str:
        found = re.fullmatch(r"metadata\.(annotations|labels)\['(.+)'\]", path)
        if found:
            return str(self._pod["metadata"].get(found[1], {}).get(found[2], ""))
        return {"metadata.name": str(self._pod["metadata"]["name"]), "status.podIP": self.address}[path]


def decoded(secret: Mapping[str, Any]) -> dict[str, bytes]:
    """A Secret's files."""
    plain = {name: text.encode() for name, text in secret.get("stringData", {}).items()}
    return {**{name: base64.b64decode(text) for name, text in secret.get("data", {}).items()}, **plain}


def _ip(*arguments: str) -> None:
    subprocess.run([*_IP, *arguments], check=True, capture_output=True)
