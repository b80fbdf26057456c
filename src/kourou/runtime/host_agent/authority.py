"""A run's own authority, which signs a certificate for each host.

Its key never leaves the launcher's memory, but where a launcher is started elsewhere with a key that was made for it.
"""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kourou.runtime.node_process.certificate import Certificate

_SKEW = datetime.timedelta(days=1)  # by which clocks of hosts may differ
_VALID = datetime.timedelta(days=3650)  # they are gone when the run ends; until then they must not run out
_NAME = "kourou"
_SIGNS_DATA = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # digital_signature
_SIGNS_OTHERS = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # key_cert_sign, crl_sign


class Authority:
    """Signs the certificates of one run. Thread-safe.

    Each says what it may be used for: strict clients (Python 3.13 and later) refuse those that do not.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey | None = None, certificate: bytes | None = None) -> None:
        self._key = key or _new_key()
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = certificate or self._sign(_NAME, self._key, constraints, _SIGNS_OTHERS)
        """What clients trust; no secret."""

    @classmethod
    def from_pem(cls, text: bytes) -> Authority:
        """The inverse of :meth:`to_pem`."""
        key = serialization.load_pem_private_key(text, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - as it was made
        return cls(key, x509.load_pem_x509_certificate(text).public_bytes(serialization.Encoding.PEM))

    def to_pem(self) -> bytes:
        """All of it, for a launcher elsewhere: its secret, too."""
        return _as_pem(self._key) + self.certificate

    def issue(self, host: str) -> Certificate:
        """A new key, and a certificate for servers at this address or name."""
        key = _new_key()
        signed = self._sign(
            f"{_NAME} host",
            key,
            x509.BasicConstraints(ca=False, path_length=None),
            _SIGNS_DATA,
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            x509.SubjectAlternativeName([_name_of(host)]),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
        )
        return Certificate(certificate=signed, key=_as_pem(key))

    def _sign(self, subject: str, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(
            issuer_name=_called(_NAME),
            subject_name=_called(subject),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - _SKEW,
            not_valid_after=now + _VALID,
        )
        for extension in (*extensions, x509.SubjectKeyIdentifier.from_public_key(key.public_key())):
            critical = isinstance(extension, (x509.BasicConstraints, x509.KeyUsage))
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _as_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, plain)


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _name_of(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode("ascii"))  # as sockets and ssl look it up
