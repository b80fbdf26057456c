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


def _interfaces() -> dict[str, set[str]]:
    """This machine's interfaces, and the addresses of each."""
    import psutil  # noqa: PLC0415 - slow to import, and every node imports this module

    return {
        name: {str(own.address).partition("%")[0] for own in addresses}
        for name, addresses in psutil.net_if_addrs().items()
    }
