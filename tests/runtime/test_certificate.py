"""A run's own authority, and what servers prove themselves with."""

from __future__ import annotations

import datetime
import ssl
import sys

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

import kourou as lp
from kourou.errors import PlanError
from kourou.runtime.host_agent.authority import Authority
from kourou.runtime.plan.compile import compile_program

pytestmark = pytest.mark.usefixtures("no_leaks")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """Let a client of this server, which it knows by this name, look at its certificate."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there, server_hostname=host), server.wrap_bio(there, back, server_side=True)]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue


def strict(root: bytes) -> ssl.SSLContext:
    """A client that refuses certificates which do not say what they are for, as Python 3.13's do."""
    context = ssl.create_default_context(cadata=root.decode("ascii"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@pytest.mark.parametrize("host", ["10.0.0.1", "fe80::1", "node-7.example", "knüppel-7.example"])
def test_certificates_are_for_addresses_and_names(host: str) -> None:
    # Given an authority, and what it has issued for a host
    authority = Authority()
    server = authority.issue(host).make_context()
    # When clients that trust it come for that host, or for another one, then the former alone believe it
    shake_hands(server, strict(authority.certificate), host)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(server, strict(authority.certificate), "10.0.0.2")
    # and those of another run do not
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, strict(Authority().certificate), host)


def test_a_certificate_is_for_servers_only_and_holds_though_clocks_differ() -> None:
    authority = Authority()
    issued = x509.load_pem_x509_certificate(authority.issue("m1").certificate)
    uses = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]
    an_hour = datetime.timedelta(hours=1)
    assert issued.not_valid_before_utc + an_hour < datetime.datetime.now(datetime.timezone.utc)


def test_each_host_has_a_key_of_its_own_which_is_not_shown() -> None:
    authority = Authority()
    first, second = authority.issue("m1"), authority.issue("m1")
    assert first.key != second.key
    assert "PRIVATE" in first.key.decode("ascii")
    assert "PRIVATE" not in repr(first)


def test_without_cryptography_the_plan_says_which_extra_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    program = lp.Program("spread")
    program.add_node(lp.PyNode(print), label="worker")
    with pytest.raises(PlanError, match=r"nodes speak TLS: cryptography is not installed.*'kourou\[tls\]'"):
        compile_program(program, "ssh", hosts=["m1", "m2"])
