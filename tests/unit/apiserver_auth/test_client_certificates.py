"""Paths of client certificates: what leads to an authority and what only pretends to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tiphys.apiserver.authn.certificate import VerifiedPeers
from tiphys.base.certificates import UNKNOWN, USAGE, ClientVerifier, Unverified, Verified

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START.timestamp() + 3600
CLIENT = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
SERVER = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)


def authority(length: int | None = None) -> tuple[Any, bool]:
    return x509.BasicConstraints(ca=True, path_length=length), True


class Made:
    """A certificate with its key."""

    def __init__(self, name: str, issuer: Made | None, *extensions: tuple[Any, bool], days: float = 1) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer or self
        end = START + timedelta(days=days)
        builder = x509.CertificateBuilder(
            signer.name, self.name, self.key.public_key(), x509.random_serial_number(), START, end
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        self.certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


ROOT = Made("root", None, authority())
VERIFIER = ClientVerifier(ROOT.pem)


def problem(chain: Sequence[Made], verifier: ClientVerifier = VERIFIER, now: float = NOW) -> str:
    try:
        verifier.verify([each.der for each in chain]).check(now)
    except Unverified as error:
        return str(error)
    return ""


def test_a_client_of_the_authority_is_good_directly_and_through_another() -> None:
    middle = Made("middle", ROOT, authority())
    assert problem([Made("jane", ROOT, CLIENT)]) == ""
    assert problem([Made("jane", ROOT)]) == "", "without extended key usages all are meant"
    stranger = Made("stranger", None, authority())
    assert problem([Made("jane", middle, CLIENT), stranger, middle]) == "", "in any order, with others among them"
    assert problem([Made("jane", middle, CLIENT)]) == UNKNOWN


def test_names_alone_make_no_authority() -> None:
    same_name = Made("root", None, authority())
    assert problem([Made("jane", same_name, CLIENT)]) == UNKNOWN
    assert problem([Made("jane", same_name, CLIENT), same_name]) == UNKNOWN


@pytest.mark.parametrize(
    "extensions",
    [
        (),
        (CLIENT,),
        ((x509.BasicConstraints(ca=False, path_length=None), True),),
        (authority(), SERVER),
        (authority(), (x509.NameConstraints(None, [x509.DNSName("a")]), True)),
        (
            authority(),
            (x509.KeyUsage(True, False, False, False, False, False, False, False, False), True),
        ),
    ],
)
def test_who_may_not_sign_leads_nowhere(extensions: Any) -> None:
    middle = Made("middle", ROOT, *extensions)
    assert problem([Made("jane", middle, CLIENT), middle]) == UNKNOWN


def test_path_lengths_are_kept() -> None:
    short = Made("short", ROOT, authority(0))
    below = Made("below", short, authority())
    assert problem([Made("jane", short, CLIENT), short]) == ""
    assert problem([Made("jane", below, CLIENT), below, short]) == UNKNOWN


def test_the_whole_path_must_be_good_now() -> None:
    middle = Made("middle", ROOT, authority(), days=0.02)
    chain = [Made("jane", middle, CLIENT), middle]
    assert problem(chain, now=START.timestamp() + 60) == ""
    assert problem(chain).startswith("x509: certificate has expired or is not yet valid: current time")
    assert "is before" in problem(chain, now=START.timestamp() - 60)


def test_servers_certificates_and_unknown_critical_extensions_are_no_clients() -> None:
    assert problem([Made("web", ROOT, SERVER)]) == USAGE
    odd = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"), True)
    assert problem([Made("jane", ROOT, CLIENT, odd)]) == "x509: unhandled critical extension"


def test_a_peer_cannot_keep_the_server_busy() -> None:
    twins = [Made("twin", None, authority()) for _ in range(6)]
    crossed = [Made("twin", other, authority()) for other in twins]
    assert problem([Made("jane", twins[0], CLIENT), *crossed, *twins]) != ""
    with pytest.raises(Unverified, match="malformed"):
        VERIFIER.verify([b"\x30\x03\x02\x01\x01"])
    assert problem([Made("jane", ROOT, CLIENT)], ClientVerifier(b"")) == UNKNOWN


def test_a_certificate_that_is_not_good_is_verified_once() -> None:
    asked = []

    class Counting(ClientVerifier):
        def verify(self, chain: Sequence[bytes]) -> Verified:
            asked.append(chain)
            raise Unverified("no")

    peers = VerifiedPeers(Counting(b""))
    for n in (1, 1, 2, 1, *range(200)):
        with pytest.raises(Unverified, match="no"):
            peers.verify((b"%d" % n, b"issuer"))
    assert len(asked) == 200
    assert len(peers._bad) <= 64
