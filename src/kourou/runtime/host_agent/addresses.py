"""Names and addresses of hosts, as this machine sees them."""

from __future__ import annotations

import ipaddress
import socket

import psutil

__all__ = ["interface_of", "is_this_machine"]


def is_this_machine(name: str) -> bool:
    """True when a name leads to a loopback address, or to an address of one of this machine's interfaces."""
    if name == "localhost":
        return True
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(name, None)}
    except OSError:
        return False  # an alias that ssh knows, or a mistake that ssh will tell
    own = {str(a.address).partition("%")[0] for addresses in psutil.net_if_addrs().values() for a in addresses}
    return all(ipaddress.ip_address(address).is_loopback or address in own for address in found)


def interface_of(address: str) -> str | None:
    """The network interface that has an address; None where none does (127.0.0.2, or one behind a translation)."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(str(own.address).partition("%")[0] == address for own in addresses):
            return name
    return None
