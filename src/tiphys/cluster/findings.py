"""What the doctor says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `needed` is False for what Tiphys can do without: then `effect` says what follows from its
    absence. `advice` says how to get it."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
    needed: bool = True
    effect: str = ""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)
