"""Client certificates: the common name is the user, the organizations are the groups (X.509 authentication).

A certificate that the transport has verified is only read here. One that it only took (`Peer.presented`) is verified
against the client authorities, once, and its time is looked at again with each request.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tiphys.apiserver.authn.chain import AUTHENTICATED, Refused, with_group
from tiphys.base.certificates import ClientVerifier, Unverified, Verified
from tiphys.base.clock import Clock, SystemClock
from tiphys.base.http.types import Request
from tiphys.base.identity import User

if TYPE_CHECKING:
    from cryptography import x509

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
UID = "1.3.6.1.4.1.57683.2"
"""Kubernetes' own attribute type for the user's UID."""
CACHE = 1024
MAX_BAD = 64
"""Certificates that are not good are remembered: so few, for a stranger chooses how long they are."""


class VerifiedPeers:
    """Which presented certificates are good, by one set of authorities; each is verified once."""

    def __init__(self, verifier: ClientVerifier, clock: Clock | None = None) -> None:
        self._verifier, self._clock = verifier, clock or SystemClock()
        self._known: dict[bytes, Verified] = {}
        self._bad: dict[tuple[bytes, ...], str] = {}
        """Why others are not good: whoever shows them with each request must not make us verify each time."""

    def verify(self, chain: tuple[bytes, ...]) -> x509.Certificate:
        """The peer's certificate. Raises Unverified."""
        found = self._known.get(chain[0])
        if found is None:
            found = self._first(chain)
            if len(self._known) >= CACHE:
                self._known.clear()
            self._known[chain[0]] = found
        found.check(self._clock.time())
        return found.certificate

    def _first(self, chain: tuple[bytes, ...]) -> Verified:
        if chain in self._bad:
            raise Unverified(self._bad[chain])
        try:
            return self._verifier.verify(chain)
        except Unverified as error:
            if len(self._bad) >= MAX_BAD:
                self._bad.clear()
            self._bad[chain] = str(error)
            raise


class Certificates:
    """Authenticates by the request's peer; each certificate is parsed once. Without `peers` only certificates that
    the transport verified count."""

    def __init__(self, peers: VerifiedPeers | None = None) -> None:
        self._peers = peers
        self._users: dict[bytes, User | None] = {}

    async def authenticate(self, request: Request) -> User | None:
        peer = request.peer
        der = peer.certificate
        if der is None:
            if not peer.presented or self._peers is None:
                return None
            self._verify(peer.presented, self._peers)
            der = peer.presented[0]
        if der not in self._users:
            if len(self._users) >= CACHE:
                self._users.clear()
            self._users[der] = user_of(der)
        return self._users[der]

    @staticmethod
    def _verify(chain: tuple[bytes, ...], peers: VerifiedPeers) -> None:
        try:
            peers.verify(chain)
        except Unverified as error:
            raise Refused(f"verifying certificate {_serial(chain[0])} failed: {error}") from error


def user_of(der: bytes) -> User | None:
    """The user that a certificate names; None without a common name. Raises Refused."""
    from cryptography.x509 import ObjectIdentifier, load_der_x509_certificate
    from cryptography.x509.oid import NameOID

    subject = load_der_x509_certificate(der).subject

    def values(kind: ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(attribute.value) for attribute in subject.get_attributes_for_oid(kind))

    names = values(NameOID.COMMON_NAME)
    if not names or not names[-1]:
        return None
    uids = values(ObjectIdentifier(UID))
    if len(uids) > 1:
        raise Refused(f"expected 1 UID, but found multiple: [{' '.join(uids)}]")
    if uids == ("",):
        raise Refused("UID cannot be an empty string")
    credential = f"X509SHA256={hashlib.sha256(der).hexdigest()}"
    groups = values(NameOID.ORGANIZATION_NAME)
    # Of several common names the last one counts, as in Go's pkix.Name.
    user = User(names[-1], uids[0] if uids else "", groups, {CREDENTIAL_ID: (credential,)})
    return with_group(user, AUTHENTICATED)


def _serial(der: bytes) -> str:
    from cryptography import x509

    try:
        return f"SN={x509.load_der_x509_certificate(der).serial_number}"
    except ValueError:
        return "without a serial number"
