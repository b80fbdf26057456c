"""Weights on several hosts: network namespaces with links of 1 Gbit/s in either direction; needs root, ip and tc.

weights.hosts8_256MiB_s: 256 MiB from the call of ``publish`` until the last of eight other hosts has them mapped.
weights.hosts8_256MiB_over_wire: that, over the time that one copy takes on one link.
weights.hosts8_egress_over_size: bytes that the publisher's host sent, over 256 MiB.
weights.hosts8_unchanged_s: the same time, where a hundredth of the weights has changed.

weights.hosts8_relay_cpu_s: CPU time of a host in the middle of the chain, for a whole version.

All of it goes over TLS, as between hosts of a program; ``--plain`` shows what that costs. ``--hosts``, ``--mib`` and
``--repeat`` make it smaller; the names do not change.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compare import emit

BYTES_PER_S = 1e9 / 8
WAIT_S = 120.0
PUBLISHER = "10.99.99.1"
WARM_UP = 4  # versions: each host has so many slots


def run(command: str) -> str:
    """Run a command; what it prints."""
    environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return subprocess.run(command.split(), env=environ, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def network(hosts: int) -> Iterator[list[str]]:
    """As many namespaces, and one more, at a bridge; their names. Their addresses end in 1, 2 and so on."""
    prefix = f"w{secrets.token_hex(2)}"
    names = [f"{prefix}n{number}" for number in range(hosts + 1)]
    try:
        run(f"ip link add {prefix}b type bridge")
        run(f"ip link set {prefix}b up")
        for number, name in enumerate(names):
            link = f"{prefix}v{number}"
            run(f"ip netns add {name}")
            run(f"ip link add {link} type veth peer name eth0 netns {name}")
            run(f"ip link set {link} master {prefix}b up")
            run(f"ip -n {name} addr add 10.99.99.{number + 1}/24 dev eth0")
            for device in ("lo", "eth0"):
                run(f"ip -n {name} link set {device} up")
            for where in (f"tc -n {name}", "tc"):
                device = "eth0" if where != "tc" else link
                run(f"{where} qdisc add dev {device} root handle 1: htb default 1")
                run(f"{where} class add dev {device} parent 1: classid 1:1 htb rate 1gbit burst 128k")
        yield names
    finally:
        for name in names:
            with contextlib.suppress(subprocess.CalledProcessError):
                run(f"ip netns del {name}")
        with contextlib.suppress(subprocess.CalledProcessError):
            run(f"ip link del {prefix}b")


def certified(authority: str, host: str) -> tuple[Any, Any]:
    """What clients trust, and what a server at this address shows them; None, None without TLS."""
    from kourou.runtime.host_agent.authority import Authority  # noqa: PLC0415 - only some processes need it

    if not authority:
        return None, None
    signs = Authority.from_pem(Path(authority).read_bytes())
    return signs.certificate, signs.issue(host).make_context()


def be_reader(address: str, token: str, authority: str, own: str, folder: str) -> None:
    """Print when each version was mapped."""
    from kourou import courier  # noqa: PLC0415 - only these processes need it
    from kourou.courier.address_target import AddressTarget  # noqa: PLC0415 - as above
    from kourou.weights import Client, Relaying  # noqa: PLC0415 - as above

    trusts, shows = certified(authority, own)
    relaying = Relaying(folder=folder, serve=lambda: courier.Server("relay", host=own, token=token, tls=shows))
    with Client(AddressTarget(address, token, trusts), relaying=relaying) as client:
        subscriber, last = client.subscriber(), 0
        print("ready", subscriber.latest() is None, flush=True)
        while True:
            view = subscriber.latest(newer_than=last, timeout_s=WAIT_S)
            assert view is not None
            at, last = time.monotonic(), view.version
            assert (view.weights["w"][-1] == last).all()
            print(last, at, flush=True)
            del view


def be_publisher(token: str, authority: str, size: int) -> None:
    """Publish what standard input asks for: a whole version, or one with few changes; print when."""
    import numpy as np  # noqa: PLC0415 - only these processes need it

    from kourou import courier  # noqa: PLC0415 - as above
    from kourou.courier.address_target import AddressTarget  # noqa: PLC0415 - as above
    from kourou.weights import Client, Server  # noqa: PLC0415 - as above

    trusts, shows = certified(authority, PUBLISHER)
    transport = courier.Server("weights", host=PUBLISHER, token=token, tls=shows)
    rows = np.ones((256, size // 256 // 4), np.float32)
    with Server(transport=transport) as server, Client(AddressTarget(server.address, token, trusts)) as client:
        publisher = client.publisher()
        print(server.address, flush=True)
        for version, line in enumerate(sys.stdin, 1):
            rows[-3 if line.strip() == "few" else 0 :] += 0.125
            rows[-1] = version
            print(sent_bytes(), time.monotonic(), flush=True)
            publisher.publish({"w": rows}, version=version)
        print(sent_bytes(), flush=True)


def sent_bytes() -> int:
    """What this host has sent so far."""
    return next(int(line.split()[9]) for line in Path("/proc/net/dev").read_text().splitlines() if "eth0:" in line)


class Team:
    """The processes."""

    def __init__(self, names: list[str], size: int, folder: str, *, plain: bool = False) -> None:
        from kourou.runtime.host_agent.authority import Authority  # noqa: PLC0415 - only this process needs it

        token, authority = secrets.token_hex(16), Path(folder) / "authority"
        authority.write_bytes(Authority().to_pem())
        common = token, "" if plain else str(authority)
        self._processes: list[subprocess.Popen[str]] = []
        self.publisher = self._start(names[0], "--publisher", *common, str(size))
        address = self._line(self.publisher)[0]
        self.readers = []
        for number, name in enumerate(names[1:], 2):
            own = Path(folder) / name
            own.mkdir()
            self.readers.append(self._start(name, "--reader", address, *common, f"10.99.99.{number}", str(own)))
            self._line(self.readers[-1])

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", name, sys.executable, __file__, *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        return process

    @staticmethod
    def _line(process: Any) -> list[str]:
        line: str = process.stdout.readline()
        return line.split()

    def publish(self, what: str) -> tuple[float, int]:
        """Seconds until all have it; what had been sent when it began."""
        stdin: Any = self.publisher.stdin
        stdin.write(f"{what}\n")
        stdin.flush()
        sent, start = self._line(self.publisher)
        return max(float(self._line(reader)[1]) for reader in self.readers) - float(start), int(sent)

    def relay_cpu_s(self) -> float:
        """CPU time so far of a host in the middle."""
        relay = self._processes[1 + len(self.readers) // 2]
        fields = Path(f"/proc/{relay.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.wait(WAIT_S)


def measure(hosts: int, mib: int, repeat: int, *, plain: bool) -> None:
    """Publish again and again."""
    size = mib << 20
    with network(hosts) as names, tempfile.TemporaryDirectory() as folder:
        team = Team(names, size, folder, plain=plain)
        try:
            for _ in range(WARM_UP):
                team.publish("all")
            cpu_s = -team.relay_cpu_s()
            whole = [team.publish("all") for _ in range(repeat)]
            cpu_s += team.relay_cpu_s()
            few = [team.publish("few") for _ in range(repeat + 1)]
        finally:
            team.close()
    seconds = statistics.median(time_s for time_s, _ in whole)
    emit("weights.hosts8_256MiB_s", seconds)
    emit("weights.hosts8_256MiB_over_wire", seconds / (size / BYTES_PER_S))
    emit("weights.hosts8_egress_over_size", (few[0][1] - whole[0][1]) / repeat / size)
    emit("weights.hosts8_relay_cpu_s", cpu_s / repeat)
    emit("weights.hosts8_unchanged_s", statistics.median(time_s for time_s, _ in few[1:]))


def main() -> None:
    """Measure, or be a part of it, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=8, help="beside the publisher's (default: 8)")
    parser.add_argument("--mib", type=int, default=256, help="size of the weights (default: 256)")
    parser.add_argument("--repeat", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("--reader", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--publisher", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reader:
        be_reader(*args.reader)
    elif args.publisher:
        token, authority, size = args.publisher
        be_publisher(token, authority, int(size))
    elif os.geteuid() != 0:
        sys.exit("weights_hosts.py: only root can make network namespaces")
    else:
        measure(args.hosts, args.mib, args.repeat, plain=args.plain)


if __name__ == "__main__":
    main()
