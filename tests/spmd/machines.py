"""Hosts with an address and a name of their own, on one machine: network namespaces with a real sshd in each.

They share the file system, as hosts of a cluster do, and the table of processes, so a test sees what is left on them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import psutil

from polling import WAIT_S, until

WITHOUT_TORCH = str(Path(__file__).parent / "without_torch")
"""For PYTHONPATH, where no torch is wanted."""


class Machines:
    """Three hosts, ``m1`` to ``m3``.

    Args:
        folder: for keys and the like.
        count: how many hosts.
        empty: folders that are not shared: each host has an empty one of its own there.
        variables: of the environment that its sshd gives, by host.

    Attributes:
        ssh_config: knows them.
        names: of the hosts.
    """

    networks: ClassVar[set[int]] = set()  # of all hosts that are up now; a process tells by it whether it is on one

    def __init__(
        self,
        folder: Path,
        count: int = 3,
        empty: tuple[Path, ...] = (),
        variables: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._variables = variables or {}
        self._empty = empty
        self._folder = folder
        self._count = count
        self._prefix = f"k{secrets.token_hex(2)}"
        self._network = f"10.{77 + secrets.randbelow(100)}.{secrets.randbelow(250)}"
        self.ssh_config = folder / "ssh_config"
        self.names = [f"m{number}" for number in range(1, count + 1)]

    @contextlib.contextmanager
    def up(self) -> Iterator[Machines]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        for key in ("id", "hostkey"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / key))
        shutil.copy(self._folder / "id.pub", self._folder / "authorized_keys")
        bridge = f"{self._prefix}b"
        try:
            run("ip", "link", "add", bridge, "type", "bridge")
            run("ip", "addr", "add", f"{self._network}.254/24", "dev", bridge)
            run("ip", "link", "set", bridge, "up")
            for number in range(1, self._count + 1):
                self._start(number, bridge)
            self._write_config()
            yield self
        finally:
            self._down(bridge)

    def cut(self, name: str) -> None:
        """Take a host off the network."""
        run("ip", "link", "set", f"{self._prefix}v{name[1:]}", "down")

    def mend(self, name: str) -> None:
        """Put it back."""
        run("ip", "link", "set", f"{self._prefix}v{name[1:]}", "up")

    @contextlib.contextmanager
    def separated(self, *names: str) -> Iterator[None]:
        """Let these hosts lose each other; they still reach all others, and this machine."""
        links = [f"{self._prefix}v{name[1:]}" for name in names]
        try:
            for link in links:
                run("ip", "link", "set", link, "type", "bridge_slave", "isolated", "on")
            yield
        finally:
            for link in links:
                run("ip", "link", "set", link, "type", "bridge_slave", "isolated", "off")

    @contextlib.contextmanager
    def out_of_reach(self, name: str) -> Iterator[None]:
        """Let this machine have no way to a host; the other hosts still reach it."""
        route = ("unreachable", f"{self.address(name)}/32")
        run("ip", "route", "add", *route)
        try:
            yield
        finally:
            run("ip", "route", "del", *route)

    def address(self, name: str) -> str:
        """Of a host."""
        return f"{self._network}.{name[1:]}"

    @property
    def outside(self) -> str:
        """The address at which they see this machine."""
        return f"{self._network}.254"

    def inside(self, name: str) -> list[str]:
        """What a command is preceded by, to run on a host."""
        space = f"/run/netns/{self._prefix}n{name[1:]}"
        # `ip netns exec` mounts /sys anew, without what slurmd looks for there
        return ["nsenter", f"--net={space}", "unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh"]

    def processes(self, name: str) -> list[psutil.Process]:
        """All that runs on a host."""
        space = Path(f"/run/netns/{self._prefix}n{name[1:]}").stat().st_ino
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if Path(f"/proc/{process.pid}/ns/net").stat().st_ino == space:
                    found.append(process)
        return found

    def sshds(self, name: str) -> list[psutil.Process]:
        """The processes of a host's sshd that serve a connection each."""
        number = int(name[1:])
        return psutil.Process(int(self._pid_file(number).read_text(encoding="ascii"))).children(recursive=False)

    def _start(self, number: int, bridge: str) -> None:
        space, link, address = f"{self._prefix}n{number}", f"{self._prefix}v{number}", f"{self._network}.{number}"
        run("ip", "netns", "add", space)
        self.networks.add(Path(f"/run/netns/{space}").stat().st_ino)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "link", "set", link, "master", bridge, "up")
        run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            run("ip", "-n", space, "link", "set", device, "up")
        options = {
            "Port": "22",
            "ListenAddress": address,
            "HostKey": self._folder / "hostkey",
            "PidFile": self._pid_file(number),
            "AuthorizedKeysFile": self._folder / "authorized_keys",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "UsePAM": "no",
            "MaxStartups": "100",
        }
        if variables := self._variables.get(f"m{number}"):
            options["SetEnv"] = " ".join(f"{name}={value}" for name, value in variables.items())
        config = self._folder / f"sshd{number}.conf"
        config.write_text("".join(f"{key} {value}\n" for key, value in options.items()), encoding="utf-8")
        # `ip netns exec` gives a table of mounts of its own, too.
        mounts = "".join(f"mount -t tmpfs none {shlex.quote(str(folder))} && " for folder in self._empty)
        start = f"hostname m{number} && {mounts}exec /usr/sbin/sshd -f {config} -E {config}.log"
        run("ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c", start)
        until(self._pid_file(number).exists, WAIT_S)

    def _write_config(self) -> None:
        key = " ".join((self._folder / "hostkey.pub").read_text(encoding="ascii").split()[:2])
        known, config = "", ""
        for number in range(1, self._count + 1):
            address = f"{self._network}.{number}"
            known += f"{address} {key}\n"
            config += f"Host m{number}\n  HostName {address}\n"
        config += f"Host nowhere\n  HostName {self._network}.99\n"
        config += f"Host *\n  User root\n  IdentityFile {self._folder}/id\n  IdentitiesOnly yes\n"
        config += f"  UserKnownHostsFile {self._folder}/known_hosts\n"
        (self._folder / "known_hosts").write_text(known, encoding="ascii")
        self.ssh_config.write_text(config, encoding="utf-8")

    def _pid_file(self, number: int) -> Path:
        return self._folder / f"sshd{number}.pid"

    def _down(self, bridge: str) -> None:
        for number in range(1, self._count + 1):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(self._pid_file(number).read_text(encoding="ascii")), 15)
            space = f"{self._prefix}n{number}"
            with contextlib.suppress(OSError):
                self.networks.discard(Path(f"/run/netns/{space}").stat().st_ino)
            run("ip", "netns", "del", space, check=False)
        run("ip", "link", "del", bridge, check=False)


def run(*command: str, check: bool = True) -> None:
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
