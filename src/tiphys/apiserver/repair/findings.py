"""What is found to be wrong with an allocation: what to tell whom, what to count and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

Object = Mapping[str, Any]


class Repair(Enum):
    """What is to be done about an IPAddress."""

    NOTHING = "nothing"
    """People have to: only they know which Service may be made anew."""
    CREATE = "create"
    RECREATE = "recreate"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Finding:
    """`about` is the object that the event is of; no `reason`: no event. `kind` is the metrics' type of error."""

    about: Object
    kind: str
    reason: str = ""
    action: str = ""
    message: str = ""
    repair: Repair = Repair.NOTHING
    ip: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """It cannot be said before so many seconds have passed."""

    seconds: float
