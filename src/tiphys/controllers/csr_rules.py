"""What Kubernetes' own signers demand of a certificate signing request (API reference, Kubernetes signers)."""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from tiphys.client.types import Object, Resource
from tiphys.controllers.objects import spec

if TYPE_CHECKING:
    from cryptography import x509

CERTIFICATE_SIGNING_REQUESTS = Resource("certificates.k8s.io", "v1", "certificatesigningrequests", namespaced=False)
SUBJECT_ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", namespaced=False)

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNERS = (KUBELET_SERVING, KUBELET_CLIENT, CLIENT, LEGACY)

NODES, NODE = "system:nodes", "system:node:"
SIGNATURE, ENCIPHERMENT = "digital signature", "key encipherment"
CLIENT_AUTH, SERVER_AUTH = "client auth", "server auth"


class Refused(ValueError):
    """The request is not one that the signer signs; the message says why."""


def parsed(request: Object) -> x509.CertificateSigningRequest:
    """The PKCS #10 request in the object. Raises ValueError."""
    from cryptography import x509

    return x509.load_pem_x509_csr(base64.b64decode(spec(request).get("request", "")))


def check(signer: str, csr: x509.CertificateSigningRequest, usages: Collection[str]) -> None:
    """Raises Refused."""
    if signer == KUBELET_SERVING:
        check_kubelet_serving(csr, usages)
    elif signer == KUBELET_CLIENT:
        check_kubelet_client(csr, usages)
    elif signer == CLIENT:
        _check_client(usages)


def check_kubelet_client(csr: x509.CertificateSigningRequest, usages: Collection[str]) -> None:
    """A certificate by which a kubelet speaks as its node. Raises Refused."""
    _check_organization(csr)
    names = alternative_names(csr)
    for kind in ("DNS", "Email", "IP", "URI"):
        if names[kind]:
            raise Refused(f"{kind} subjectAltNames are not allowed")
    _check_node(csr)
    _check_usages(usages, CLIENT_AUTH)


def check_kubelet_serving(csr: x509.CertificateSigningRequest, usages: Collection[str]) -> None:
    """A certificate by which a kubelet's own server is known. Raises Refused."""
    _check_organization(csr)
    names = alternative_names(csr)
    if not names["DNS"] and not names["IP"]:
        raise Refused("DNS or IP subjectAltName is required")
    for kind in ("Email", "URI"):
        if names[kind]:
            raise Refused(f"{kind} subjectAltNames are not allowed")
    _check_usages(usages, SERVER_AUTH)
    _check_node(csr)


def _check_client(usages: Collection[str]) -> None:
    for usage in usages:
        if usage not in (SIGNATURE, ENCIPHERMENT, CLIENT_AUTH):
            raise Refused(f"invalid usage for client certificate: {usage}")
    if CLIENT_AUTH not in usages:
        raise Refused(f"missing required usage for client certificate: {CLIENT_AUTH}")


def _check_organization(csr: x509.CertificateSigningRequest) -> None:
    if organizations(csr) != [NODES]:
        raise Refused("subject organization is not system:nodes")


def _check_node(csr: x509.CertificateSigningRequest) -> None:
    if not common_name(csr).startswith(NODE):
        raise Refused("subject common name does not begin with system:node:")


def _check_usages(usages: Collection[str], purpose: str) -> None:
    wanted = {SIGNATURE, ENCIPHERMENT, purpose}
    if set(usages) not in (wanted, wanted - {ENCIPHERMENT}):
        raise Refused(f"usages did not match [{' '.join(sorted(wanted))}]")


def organizations(csr: x509.CertificateSigningRequest) -> list[str]:
    """The subject's groups."""
    from cryptography.x509.oid import NameOID

    return [str(each.value) for each in csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def common_name(csr: x509.CertificateSigningRequest) -> str:
    """The subject's name; of several the last one, as Go reads it."""
    from cryptography.x509.oid import NameOID

    names = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def alternative_names(csr: x509.CertificateSigningRequest) -> dict[str, list[object]]:
    """The alternative names by kind: DNS, Email, IP, URI."""
    from cryptography import x509

    try:
        found = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {"DNS": [], "Email": [], "IP": [], "URI": []}
    kinds: dict[str, Any] = {
        "DNS": x509.DNSName,
        "Email": x509.RFC822Name,
        "IP": x509.IPAddress,
        "URI": x509.UniformResourceIdentifier,
    }
    return {name: list(found.get_values_for_type(kind)) for name, kind in kinds.items()}
