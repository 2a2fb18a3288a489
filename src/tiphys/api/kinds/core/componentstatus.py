"""ComponentStatus: deprecated, read only (API reference, core/v1)."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Object
from tiphys.api.kinds.common import PlainKind


class ComponentStatus(PlainKind):
    plural, kind = "componentstatuses", "ComponentStatus"
    columns = (
        printing.NAME,
        Column("Status", description="Status of the component conditions"),
        Column("Message", description="Message of the component conditions"),
        Column("Error", description="Error of the component conditions"),
    )

    def cells(self, obj: Object, now: float) -> list[Any]:
        for condition in obj.get("conditions") or ():
            if condition.get("type") == "Healthy":
                status = "Healthy" if condition.get("status") == "True" else "Unhealthy"
                return [printing.name(obj), status, condition.get("message", ""), condition.get("error", "")]
        return [printing.name(obj), "Unknown", "", ""]
