"""A run's own certificates: nodes on different hosts speak TLS, and trust this run's authority alone."""

from __future__ import annotations

import dataclasses
import ipaddress
import secrets
import subprocess
from pathlib import Path

from kourou import errors

__all__ = ["Authority", "Certificate"]

_VALID = ("-days", "3650")  # they are gone when the run ends; until then they must not run out
_MAKE_S = 30.0
# What each may be used for: without it, strict clients (Python 3.13 and later) refuse both.
_AUTHORITY = """\
[req]
prompt = no
distinguished_name = name
x509_extensions = authority
[name]
CN = kourou
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_SERVER = """\
subjectAltName = {kind}:{host}
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a server proves itself with, in PEM format."""

    certificate: bytes
    key: bytes = dataclasses.field(repr=False)


class Authority:
    """Signs the certificates of one run. Thread-safe.

    Args:
        folder: a private one, for its key.

    Raises:
        LaunchError: the ``openssl`` command is missing, or failed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "authority.cnf").write_text(_AUTHORITY, encoding="utf-8")
        _openssl("req", "-x509", *self._new("authority"), *_VALID)
        self.certificate = (folder / "authority.pem").read_bytes()
        """What clients trust; no secret."""

    def issue(self, host: str) -> Certificate:
        """A new key, and a certificate for servers at this address or name.

        Raises:
            LaunchError: openssl failed.
        """
        name = secrets.token_hex(8)
        request, key, names, signed = (self._folder / f"{name}.{kind}" for kind in ("pem", "key", "names", "signed"))
        names.write_text(_SERVER.format(kind="IP" if _is_address(host) else "DNS", host=host), encoding="utf-8")
        _openssl("req", "-new", *self._new(name), "-subj", "/CN=kourou host")
        own = ("-CA", self._folder / "authority.pem", "-CAkey", self._folder / "authority.key")
        serial = ("-set_serial", f"0x{name}")
        _openssl("x509", "-req", "-in", request, *own, *serial, *_VALID, "-extfile", names, "-out", signed)
        made = Certificate(certificate=signed.read_bytes(), key=key.read_bytes())
        for path in (request, key, names, signed):
            path.unlink()
        return made

    def _new(self, name: str) -> tuple[str | Path, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        own = ("-config", self._folder / "authority.cnf")  # whatever the system's own says
        return (*curve, *own, "-keyout", self._folder / f"{name}.key", "-out", self._folder / f"{name}.pem")


def _openssl(*words: str | Path) -> None:
    try:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=_MAKE_S)  # noqa: S607 - the one on the user's PATH
    except FileNotFoundError:
        raise errors.LaunchError(
            "nodes on several hosts speak TLS; the openssl command, which makes their certificates, is not installed"
        ) from None
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        raise errors.LaunchError(f"openssl could not make a certificate: {said or error}") from error


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
