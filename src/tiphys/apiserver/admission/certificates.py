"""Certificate signing requests: who may approve and sign them, and what nobody may ask for."""

from __future__ import annotations

import base64

from tiphys.apiserver.admission.decision import concerns, refuse
from tiphys.apiserver.types import Attributes, Authorizer, Object, Plugin, RequestInfo
from tiphys.base.identity import User

GROUP = "certificates.k8s.io"
REQUESTS = "certificatesigningrequests"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


class CertificateApproval(Plugin):
    """Approving needs the verb `approve` on the signer."""

    name = "CertificateApproval"
    resources = frozenset({(GROUP, REQUESTS)})

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, attributes: Attributes) -> None:
        if attributes.operation != "UPDATE" or not concerns(attributes, GROUP, REQUESTS, "approval"):
            return
        signer = _signer(attributes.old)
        if not await _may(self._authorizer, attributes.user, "approve", signer):
            raise refuse(attributes, f'user not permitted to approve requests with signerName "{signer}"')


class CertificateSigning(Plugin):
    """Setting the certificate needs the verb `sign` on the signer."""

    name = "CertificateSigning"
    resources = frozenset({(GROUP, REQUESTS)})

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, attributes: Attributes) -> None:
        if attributes.operation != "UPDATE" or not concerns(attributes, GROUP, REQUESTS, "status"):
            return
        if (attributes.old or {}).get("status") == (attributes.obj or {}).get("status"):
            return
        signer = _signer(attributes.old)
        if not await _may(self._authorizer, attributes.user, "sign", signer):
            raise refuse(attributes, f'user not permitted to sign requests with signerName "{signer}"')


class CertificateSubjectRestriction(Plugin):
    """Nobody gets a client certificate of the group system:masters by a request."""

    name = "CertificateSubjectRestriction"
    resources = frozenset({(GROUP, REQUESTS)})

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if attributes.operation != "CREATE" or obj is None or not concerns(attributes, GROUP, REQUESTS):
            return
        if _signer(obj) != CLIENT_SIGNER:
            return
        try:
            groups = _organizations(obj["spec"]["request"])
        except ValueError as error:
            raise refuse(attributes, f"failed to parse CSR: {error}") from error
        if "system:masters" in groups:
            raise refuse(attributes, f"use of {CLIENT_SIGNER} signer with system:masters group is not allowed")


async def _may(authorizer: Authorizer, user: User, verb: str, signer: str) -> bool:
    """Whether the user has `verb` on the signer itself or on all signers of its domain."""
    for name in (signer, signer.partition("/")[0] + "/*"):
        question = RequestInfo(verb, "", True, GROUP, "*", resource="signers", name=name)
        if (await authorizer.authorize(user, question))[0]:
            return True
    return False


def _signer(request: Object | None) -> str:
    return str(((request or {}).get("spec") or {}).get("signerName", ""))


def _organizations(encoded: str) -> list[str]:
    from cryptography import x509

    request = x509.load_pem_x509_csr(base64.b64decode(encoded))
    return [str(a.value) for a in request.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)]
