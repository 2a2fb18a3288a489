"""Signs approved certificate signing requests of Kubernetes' own signers.

The setting "cluster-signing" is a mapping from signer name to (certificate, key) in PEM; signers that it lacks are left
to others. "cluster-signing-duration" is the longest life of a certificate in seconds.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.base.errors import Permanent
from tiphys.client.reconcile import Result
from tiphys.client.types import Object
from tiphys.controllers import csr_rules
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.csr_issue import YEAR, SigningAuthority, lifetime
from tiphys.controllers.csr_rules import CERTIFICATE_SIGNING_REQUESTS
from tiphys.controllers.objects import has_condition, name, spec, status

log = logging.getLogger(__name__)


def to_sign(request: Object, signers: Mapping[str, Any]) -> bool:
    """Whether a request waits for one of `signers`."""
    if has_condition(request, "Failed") or not has_condition(request, "Approved"):
        return False
    return spec(request).get("signerName") in signers and not status(request).get("certificate")


def failed(request: Object, message: str, now: str) -> dict[str, Any]:
    """The status of a request that the signer refuses."""
    condition = {
        "type": "Failed",
        "status": "True",
        "reason": "SignerValidationFailure",
        "message": message,
        "lastUpdateTime": now,
    }
    return {**status(request), "conditions": [*status(request).get("conditions", ()), condition]}


class CsrSigningController(Controller):
    """Keys are requests."""

    name = "certificatesigningrequest-signing-controller"
    account = "certificate-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        pairs: Mapping[str, tuple[bytes, bytes]] = context.settings.get("cluster-signing") or {}
        self._authorities = {signer: SigningAuthority(*pair) for signer, pair in pairs.items()}
        self._longest = float(context.settings.get("cluster-signing-duration") or YEAR)
        if not self._authorities:
            return
        self._requests = self.watch(CERTIFICATE_SIGNING_REQUESTS)
        self._requests.subscribe(self.enqueue)

    async def run(self) -> None:
        if not self._authorities:
            log.info("%s does nothing: there is no key to sign with", self.name)
            return
        await super().run()

    async def reconcile(self, key: str) -> Result | None:
        request = self._requests.by_key(key)
        if request is None or not to_sign(request, self._authorities):
            return None
        await self.update_status(CERTIFICATE_SIGNING_REQUESTS, request, self._decide(request))
        return None

    def _decide(self, request: Object) -> dict[str, Any]:
        wanted, now = spec(request), self.clock.time()
        signer, usages = str(wanted["signerName"]), list(wanted.get("usages") or ())
        try:
            csr = csr_rules.parsed(request)
        except ValueError as error:
            raise Permanent(f'unable to parse csr "{name(request)}": {error}') from error
        try:
            csr_rules.check(signer, csr, usages)
        except csr_rules.Refused as error:
            return failed(request, str(error), rfc3339(now))
        seconds = lifetime(wanted.get("expirationSeconds"), self._longest)
        certificate = self._authorities[signer].issue(csr, usages, seconds, now)
        return {**status(request), "certificate": base64.b64encode(certificate).decode()}
