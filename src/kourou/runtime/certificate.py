"""A run's own certificate: nodes on different hosts speak TLS, and trust this one alone."""

from __future__ import annotations

import dataclasses
import ipaddress
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from kourou import errors

__all__ = ["Certificate", "make_certificate"]

_VALID_DAYS = 3650  # the key is gone when the run ends; until then it must not run out
_MAKE_S = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """Both parts in PEM format."""

    certificate: bytes
    """What clients trust; no secret."""
    key: bytes = dataclasses.field(repr=False)
    """What servers prove themselves with."""


def make_certificate(hosts: Iterable[str]) -> Certificate:
    """A new key, and a certificate that it signed itself, for servers at these addresses or names.

    Raises:
        LaunchError: the ``openssl`` command is missing, or failed.
    """
    names = ",".join(sorted({f"IP:{host}" if _is_address(host) else f"DNS:{host}" for host in hosts}))
    with tempfile.TemporaryDirectory(prefix="kourou-tls-") as folder:  # its owner's alone, as mkdtemp makes it
        key, certificate = Path(folder, "key"), Path(folder, "certificate")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", str(_VALID_DAYS), "-subj", "/CN=kourou", "-addext", f"subjectAltName={names}"]
        command += ["-keyout", str(key), "-out", str(certificate)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_MAKE_S)
        except FileNotFoundError:
            raise errors.LaunchError(
                "nodes on several hosts speak TLS, whose certificate the openssl command makes; it is not installed"
            ) from None
        except subprocess.SubprocessError as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
            raise errors.LaunchError(f"openssl could not make a certificate for {names}: {said or error}") from error
        return Certificate(certificate=certificate.read_bytes(), key=key.read_bytes())


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
