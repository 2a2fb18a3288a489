"""PriorityLevelConfiguration of flowcontrol v1beta1 and v1beta2: shares were called assured."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.flowcontrol.prioritylevelconfiguration import PriorityLevelConfiguration
from tiphys.api.kinds.former.base import Former, move

_SHARES = 30


class FormerLevel(Former, PriorityLevelConfiguration):
    def default(self, obj: MutableObject, version: str) -> None:
        limited = _limited(obj)
        if limited is not None and not limited.get("assuredConcurrencyShares"):
            limited["assuredConcurrencyShares"] = _SHARES
        # Today's defaults fill in today's name of the shares, which is not a field of this version.
        super().default(obj, version)
        if limited is not None:
            limited.pop("nominalConcurrencyShares", None)

    def renew(self, obj: MutableObject) -> None:
        if (limited := _limited(obj)) is not None:
            move(limited, "assuredConcurrencyShares", "nominalConcurrencyShares")

    def restore(self, obj: MutableObject) -> None:
        if (limited := _limited(obj)) is not None:
            move(limited, "nominalConcurrencyShares", "assuredConcurrencyShares")


def _limited(obj: MutableObject) -> dict[str, Any] | None:
    found = (obj.get("spec") or {}).get("limited")
    return found if isinstance(found, dict) else None
