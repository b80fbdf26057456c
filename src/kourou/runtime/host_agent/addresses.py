"""Names and addresses of hosts, as this machine sees them."""

from __future__ import annotations

import ipaddress
import socket


def is_this_machine(name: str) -> bool:
    """True when a name leads to a loopback address, or to an address of one of this machine's interfaces."""
    if name == "localhost":
        return True
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(name, None)}
    except OSError:
        return False  # an alias that ssh knows, or a mistake that ssh will tell
    own = {address for addresses in _interfaces().values() for address in addresses}
    return all(ipaddress.ip_address(address).is_loopback or address in own for address in found)


def interface_of(address: str) -> str | None:
    """The network interface that has an address; None where none does (127.0.0.2, or one behind a translation)."""
    return next((name for name, addresses in _interfaces().items() if address in addresses), None)


def own_addresses() -> list[str]:
    """This machine's addresses, those that others may reach first."""
    every = [address for addresses in _interfaces().values() for address in addresses]
    found = [address for address in every if not address.startswith("fe80")]
    return sorted(found, key=lambda address: (address in {"127.0.0.1", "::1"}, ":" in address))


def _interfaces() -> dict[str, list[str]]:
    """This machine's interfaces, and the IP addresses of each."""
    import psutil  # noqa: PLC0415 - slow to import, and every node imports this module

    ip = {socket.AF_INET, socket.AF_INET6}
    return {
        name: [str(own.address).partition("%")[0] for own in addresses if own.family in ip]
        for name, addresses in psutil.net_if_addrs().items()
    }
