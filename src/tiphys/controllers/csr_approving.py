"""Approves the client certificates of kubelets, for whom RBAC says that they may have them.

A node asks for its own next certificate (selfnodeclient), a bootstrap token for the first one of a node (nodeclient).
Who may not have it now may have it later: such requests are looked at again, ever less often.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tiphys.base.errors import Retry
from tiphys.client.backoff import Backoff
from tiphys.client.reconcile import Result
from tiphys.client.types import Object
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers import csr_rules
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.csr_rules import CERTIFICATE_SIGNING_REQUESTS, SUBJECT_ACCESS_REVIEWS
from tiphys.controllers.objects import name, spec, status

if TYPE_CHECKING:
    from cryptography import x509

log = logging.getLogger(__name__)

SELF = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")
OTHER = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")


def recognized(request: Object, csr: x509.CertificateSigningRequest) -> list[tuple[str, str]]:
    """The (subresource, message) whose permission would approve the request."""
    wanted = spec(request)
    if wanted.get("signerName") != csr_rules.KUBELET_CLIENT:
        return []
    try:
        csr_rules.check_kubelet_client(csr, wanted.get("usages") or ())
    except csr_rules.Refused:
        return []
    return [SELF, OTHER] if wanted.get("username") == csr_rules.common_name(csr) else [OTHER]


def decided(request: Object) -> bool:
    """Whether it has a certificate, or somebody has approved or denied it."""
    kinds = {condition.get("type") for condition in status(request).get("conditions") or ()}
    return bool(status(request).get("certificate")) or bool(kinds & {"Approved", "Denied"})


def approved(request: Object, message: str) -> dict[str, Any]:
    """The request with the approval."""
    condition = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}
    conditions = [*(status(request).get("conditions") or ()), condition]
    return {**request, "status": {**status(request), "conditions": conditions}}


class CsrApprovingController(Controller):
    """Keys are requests."""

    name = "certificatesigningrequest-approving-controller"
    account = "certificate-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.queue = WorkQueue(Backoff(base=0.2, limit=1000.0))
        self._requests = self.watch(CERTIFICATE_SIGNING_REQUESTS)
        self._requests.subscribe(self.enqueue)

    async def reconcile(self, key: str) -> Result | None:
        request = self._requests.by_key(key)
        if request is None or decided(request) or spec(request).get("signerName") != csr_rules.KUBELET_CLIENT:
            return None
        try:
            found = recognized(request, csr_rules.parsed(request))
        except ValueError as error:
            log.warning('unable to parse csr "%s": %s', name(request), error)
            return None
        for subresource, message in found:
            if await self._may(request, subresource):
                await self.client.update(
                    CERTIFICATE_SIGNING_REQUESTS, approved(request, message), subresource="approval"
                )
                return None
        if found:
            tried = " ".join(subresource for subresource, _ in found)
            raise Retry(f'recognized csr "{name(request)}" as [{tried}] but subject access review was not approved')
        return None

    async def _may(self, request: Object, subresource: str) -> bool:
        """Whether who made the request may have it."""
        who = spec(request)
        asked = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "verb": "create",
            "subresource": subresource,
            "version": "*",
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": who.get("username", ""),
                "uid": who.get("uid", ""),
                "groups": list(who.get("groups") or ()),
                "extra": dict(who.get("extra") or {}),
                "resourceAttributes": asked,
            },
        }
        answer = await self.client.create(SUBJECT_ACCESS_REVIEWS, review)
        return bool((answer.get("status") or {}).get("allowed"))
