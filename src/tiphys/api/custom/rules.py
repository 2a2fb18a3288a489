"""x-kubernetes-validations: rules in CEL about values and their changes (API reference, "Validation rules")."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tiphys.api.custom.correlation import Correlated
from tiphys.api.custom.schemas import RULES, Schema, some
from tiphys.api.kinds.base import FieldError


@dataclass(slots=True)
class Verdict:
    """What the rules say; warnings are about parts of an update that did not change."""

    errors: list[FieldError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Rules:
    """The rules of a schema, compiled."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def check(self, new: Any, old: Any, correlated: Correlated | None, path: str = "") -> Verdict:
        return Verdict()


def of(schema: Schema | None, *, root: bool = True) -> Rules | None:
    """The rules of a schema; None if there are none. `root`: its objects are resources."""
    return Rules(schema) if schema is not None and some(schema, RULES) else None
