"""CertificateSigningRequest of certificates.k8s.io/v1beta1: signer, usages and a condition's status may be left out."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.certificates.certificatesigningrequest import CertificateSigningRequest
from tiphys.api.kinds.common import child, fill_empty, setdefaults
from tiphys.api.kinds.former.base import Former, structs

_UNKNOWN = "kubernetes.io/legacy-unknown"
_CLIENT = frozenset({"key encipherment", "digital signature", "client auth"})
_SERVING = frozenset({"key encipherment", "digital signature", "server auth"})
_NODES = "system:nodes"
_NODE_PREFIX = "system:node:"


class FormerRequest(Former, CertificateSigningRequest):
    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        setdefaults(spec, usages=["digital signature", "key encipherment"])
        if spec.get("signerName") is None:
            spec["signerName"] = signer(spec)
        for condition in structs((obj.get("status") or {}).get("conditions")):
            fill_empty(condition, status="True")
        super().default(obj, version)


def signer(spec: Mapping[str, Any]) -> str:
    """Who is meant to sign: a kubelet's request is known by what it asks for."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        request = x509.load_pem_x509_csr(b64decode(spec.get("request") or ""))
    except (ValueError, binascii.Error):
        return _UNKNOWN
    names = [str(part.value) for part in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(part.value) for part in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if groups != [_NODES] or not (names and names[0].startswith(_NODE_PREFIX)):
        return _UNKNOWN
    alternatives, usages = _alternatives(request), frozenset(spec.get("usages") or ())
    if usages in (_CLIENT, _CLIENT - {"key encipherment"}) and not alternatives:
        return "kubernetes.io/kube-apiserver-client-kubelet"
    if usages in (_SERVING, _SERVING - {"key encipherment"}) and alternatives:
        return "kubernetes.io/kubelet-serving"
    return _UNKNOWN


def _alternatives(request: Any) -> list[Any]:
    from cryptography import x509

    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return list(found.value)
