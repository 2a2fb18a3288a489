"""Verifying client certificates against authorities: RFC 5280 path validation as far as clients need it.

`cryptography.x509.verification` is for the web's servers: it wants alternative names and knows no Ed25519 keys, which
clients of Kubernetes lack and have. Here a path is built from the certificates that the peer sent, at most a few, to
one of the roots; each step is checked for signature, names, time, basic constraints, key usage, extended key usage
and path length, and what is critical and not known refuses. Messages are those of Go's crypto/x509.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tiphys.base.clock import rfc3339

if TYPE_CHECKING:
    from cryptography import x509

MAX_DEPTH = 8
"""Certificates in a path; longer ones are not tried."""
MAX_STEPS = 64
"""Signatures checked for one peer before its certificate is refused, whatever it sent."""
UNKNOWN = "x509: certificate signed by unknown authority"
USAGE = "x509: certificate specifies an incompatible key usage"


class Unverified(ValueError):
    """The certificate is not good; the message says why."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A good certificate, and the time (seconds since the epoch) that all of its path is good for."""

    certificate: x509.Certificate
    since: float
    until: float

    def check(self, now: float) -> None:
        """Raises Unverified outside of that time."""
        late, early = now > self.until, now < self.since
        if late or early:
            side, limit = ("after", self.until) if late else ("before", self.since)
            times = f"current time {rfc3339(now)} is {side} {rfc3339(limit)}"
            raise Unverified(f"x509: certificate has expired or is not yet valid: {times}")


class ClientVerifier:
    """Knows the authorities (PEM) that sign clients' certificates."""

    def __init__(self, authorities: bytes) -> None:
        self._pem = authorities

    @cached_property
    def _roots(self) -> list[x509.Certificate]:
        """Read when the first certificate comes: a server starts sooner without cryptography."""
        from cryptography import x509

        return x509.load_pem_x509_certificates(self._pem) if self._pem.strip() else []

    def verify(self, chain: Sequence[bytes]) -> Verified:
        """`chain` is what the peer sent, its own certificate first, in DER. Times are not judged: see `Verified.check`.

        Raises Unverified."""
        from cryptography import x509

        try:
            leaf, *others = [x509.load_der_x509_certificate(der) for der in chain[:MAX_DEPTH]]
            _check_extensions(leaf)
            _check_client(leaf)
            path = self._path(leaf, others)
        except Unverified:
            raise
        except (ValueError, TypeError) as error:
            raise Unverified(f"x509: malformed certificate: {error}") from error
        since = max(each.not_valid_before_utc.timestamp() for each in path)
        return Verified(leaf, since, min(each.not_valid_after_utc.timestamp() for each in path))

    def _path(self, leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        """From the leaf to a root. Depth first, with a bound on the work a peer can cause."""
        steps = 0
        waiting = [[leaf]]
        while waiting:
            path = waiting.pop()
            if len(path) == 1 and any(leaf == root for root in self._roots):
                return path
            for issuer, root in [*((each, False) for each in others), *((each, True) for each in self._roots)]:
                if issuer.subject != path[-1].issuer or issuer in path:
                    continue
                steps += 1
                if steps > MAX_STEPS:
                    raise Unverified("x509: signature check attempts limit reached while verifying certificate chain")
                if not _issued(issuer, path, root=root):
                    continue
                if root:
                    return [*path, issuer]
                if len(path) < MAX_DEPTH:
                    waiting.append([*path, issuer])
        raise Unverified(UNKNOWN)


def _issued(issuer: x509.Certificate, path: Sequence[x509.Certificate], *, root: bool) -> bool:
    """Whether `issuer` is an authority that may have signed, and did sign, the last certificate of `path`."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if not _is_authority(issuer, below=len(path) - 1, root=root):
        return False
    try:
        _check_extensions(issuer)
        path[-1].verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _is_authority(certificate: x509.Certificate, below: int, *, root: bool) -> bool:
    """`below` is the number of authorities between it and the leaf. Only a root may be too old to say what it is:
    a client's own certificate of version 1 must not sign others."""
    from cryptography import x509

    extensions = certificate.extensions
    try:
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return root and certificate.version is x509.Version.v1
    if not basic.ca or (basic.path_length is not None and below > basic.path_length):
        return False
    try:
        if not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return False
    except x509.ExtensionNotFound:
        pass
    return _for_clients(certificate)


def _for_clients(certificate: x509.Certificate) -> bool:
    """Whether its extended key usage, if there is one, allows authenticating clients."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return True
    return bool(usages & {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})


def _check_client(leaf: x509.Certificate) -> None:
    if not _for_clients(leaf):
        raise Unverified(USAGE)


def _check_extensions(certificate: x509.Certificate) -> None:
    """Refuse what is critical and not judged here: name constraints above all. Raises Unverified."""
    from cryptography.x509.oid import ExtensionOID

    known = {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
    if any(each.critical and each.oid not in known for each in certificate.extensions):
        raise Unverified("x509: unhandled critical extension")
