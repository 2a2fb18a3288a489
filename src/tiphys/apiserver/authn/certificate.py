"""Client certificates: the common name is the user, the organizations are the groups (X.509 authentication).

The transport has verified the certificate against the client CA; here it is only read.
"""

from __future__ import annotations

import hashlib

from tiphys.apiserver.authn.chain import AUTHENTICATED, with_group
from tiphys.base.http.types import Request
from tiphys.base.identity import User

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
UID = "1.3.6.1.4.1.57683.2"
"""Kubernetes' own attribute type for the user's UID."""
CACHE = 1024


class Certificates:
    """Authenticates by `request.peer.certificate`; each certificate is parsed once."""

    def __init__(self) -> None:
        self._users: dict[bytes, User | None] = {}

    async def authenticate(self, request: Request) -> User | None:
        der = request.peer.certificate
        if der is None:
            return None
        if der not in self._users:
            if len(self._users) >= CACHE:
                self._users.clear()
            self._users[der] = user_of(der)
        return self._users[der]


def user_of(der: bytes) -> User | None:
    """The user that a certificate names; None without a common name."""
    from cryptography.x509 import ObjectIdentifier, load_der_x509_certificate
    from cryptography.x509.oid import NameOID

    subject = load_der_x509_certificate(der).subject

    def values(kind: ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(attribute.value) for attribute in subject.get_attributes_for_oid(kind))

    names = values(NameOID.COMMON_NAME)
    if not names or not names[0]:
        return None
    uids = values(ObjectIdentifier(UID))
    credential = f"X509SHA256={hashlib.sha256(der).hexdigest()}"
    groups = values(NameOID.ORGANIZATION_NAME)
    user = User(names[0], uids[0] if uids else "", groups, {CREDENTIAL_ID: (credential,)})
    return with_group(user, AUTHENTICATED)
