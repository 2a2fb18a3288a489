"""Amounts of resources as they are kept: nothing is finer than a thousandth (API reference, "ResourceList")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.quantity import from_milli, parse

_COARSE = frozenset("0123456789mkMGTPEi")
"""How texts end that are thousandths or more, unless they have a negative exponent."""


def round_up(struct: Mapping[str, Any] | None, *names: str) -> None:
    """Round the amounts in these fields of `struct` up to thousandths."""
    for name in names:
        amounts = (struct or {}).get(name) or {}
        for resource, text in amounts.items():
            if text[-1:] not in _COARSE or "e-" in text:
                amounts[resource] = _milli(text)


def _milli(text: str) -> str:
    quantity = parse(text)
    return str(from_milli(quantity.milli, quantity.format))


def round_requirements(holder: Mapping[str, Any]) -> None:
    """The limits and requests in `holder.resources`."""
    if resources := holder.get("resources"):
        round_up(resources, "limits", "requests")
