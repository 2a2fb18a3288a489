"""DenyServiceExternalIPs: no Service takes further addresses to itself (CVE-2020-8554). Off by default."""

from __future__ import annotations

from tiphys.apiserver.admission.decision import concerns, refuse
from tiphys.apiserver.types import Attributes, Object, Plugin


class DenyServiceExternalIPs(Plugin):
    name = "DenyServiceExternalIPs"
    resources = frozenset({("", "services")})

    async def validate(self, attributes: Attributes) -> None:
        new = attributes.obj
        if attributes.operation not in ("CREATE", "UPDATE") or new is None or not concerns(attributes, "", "services"):
            return
        if not _addresses(new) <= _addresses(attributes.old or {}):
            raise refuse(attributes, "Use of external IPs is denied by admission control")


def _addresses(service: Object) -> set[str]:
    return set((service.get("spec") or {}).get("externalIPs") or ())
