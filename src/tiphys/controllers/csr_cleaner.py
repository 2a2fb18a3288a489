"""Deletes certificate signing requests that are over: an hour after certificate or refusal, a day without one."""

from __future__ import annotations

import base64

from tiphys.base.errors import NotFound
from tiphys.client.reconcile import Result
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.csr_rules import CERTIFICATE_SIGNING_REQUESTS
from tiphys.controllers.objects import created, moment, name, status

SETTLED, WAITING = 3600.0, 24 * 3600.0
"""Seconds that requests are kept: those that are settled, and those that nobody has settled."""


def due(request: Object) -> float:
    """When it is to be deleted, in seconds since the epoch; moments that its status does not have yet are later."""
    conditions, issued = status(request).get("conditions") or (), status(request).get("certificate")
    if not conditions:
        return created(request) + WAITING
    ends = []
    for condition in conditions:
        since, kind = moment(condition.get("lastUpdateTime")) or float("inf"), condition.get("type")
        if kind == "Approved":
            ends.append(since + (SETTLED if issued else WAITING))
            if issued:
                ends.append(_expiry(issued))
        elif kind in ("Denied", "Failed"):
            ends.append(since + SETTLED)
    return min(ends, default=float("inf"))


def _expiry(certificate: str) -> float:
    """When an issued certificate ends; never, if it cannot be read."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc.timestamp()
    except ValueError:
        return float("inf")


class CsrCleanerController(Controller):
    """Keys are requests. Told of each, it waits until that one is due: nothing is looked through by the hour."""

    name = "certificatesigningrequest-cleaner-controller"
    account = "certificate-controller"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._requests = self.watch(CERTIFICATE_SIGNING_REQUESTS)
        self._requests.subscribe(self.enqueue)

    async def reconcile(self, key: str) -> Result | None:
        request = self._requests.by_key(key)
        if request is None:
            return None
        left = due(request) - self.clock.time()
        if left == float("inf"):
            return None
        if left > 0:
            return Result(left + 1)
        try:
            await self.client.delete(CERTIFICATE_SIGNING_REQUESTS, name(request))
        except NotFound:
            return None
        return None
