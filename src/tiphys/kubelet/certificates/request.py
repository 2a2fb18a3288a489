"""What a kubelet asks the cluster's signers for, and when again."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
ACCOUNT_SIGNER = "kubernetes.io/kube-apiserver-client"
ORGANIZATION = "system:nodes"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A certificate of the node `node`: as a client, or, with `names`, as a server of these names and addresses; or,
    with `account`, of the user and the group as which its network asks the API server."""

    node: str
    names: tuple[str, ...] = ()
    account: tuple[str, str] | None = None

    @property
    def subject(self) -> tuple[str, str]:
        """User and group."""
        return self.account or (f"system:node:{self.node}", ORGANIZATION)

    @property
    def signer(self) -> str:
        if self.account:
            return ACCOUNT_SIGNER
        return SERVING_SIGNER if self.names else CLIENT_SIGNER

    @property
    def usages(self) -> Sequence[str]:
        """Keys are elliptic curves: they encipher nothing."""
        return ("digital signature", "server auth" if self.names else "client auth")


def make_request(wanted: Wanted) -> tuple[dict[str, Any], bytes]:
    """(the CertificateSigningRequest object, the new private key in PEM)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    user, group = wanted.subject
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, group),
        x509.NameAttribute(NameOID.COMMON_NAME, user),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if wanted.names:
        names = x509.SubjectAlternativeName([_alternative(name) for name in wanted.names])
        builder = builder.add_extension(names, critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": wanted.signer,
        "usages": list(wanted.usages),
    }
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": spec,
    }
    return body, private


def _alternative(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def validity(certificate: bytes) -> tuple[float, float]:
    """(since, until) of the first certificate in PEM, seconds since the epoch. Raises ValueError."""
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate)
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def covers(certificate: bytes, wanted: Wanted) -> bool:
    """Whether a certificate has all the names that are wanted; those that a node had may have changed."""
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return not wanted.names
    known = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    return set(wanted.names) <= known


def renew_at(since: float, until: float, chance: float) -> float:
    """After 70 to 90 % of its life; `chance` is between 0 and 1, so that nodes made at once do not ask at once."""
    return since + (until - since) * (0.7 + 0.2 * chance)
