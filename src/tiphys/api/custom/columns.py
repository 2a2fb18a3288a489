"""Columns of custom resources: what additionalPrinterColumns say, evaluated and written as upstream does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.custom.gotext import number, shown
from tiphys.api.custom.jsonpath import JsonPath, PathError, parse
from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column
from tiphys.base.clock import parse_rfc3339

Struct = Mapping[str, Any]
AGE: Struct = {
    "name": "Age",
    "type": "date",
    "description": "@ObjectMeta.creationTimestamp",
    "jsonPath": ".metadata.creationTimestamp",
}


class Printer:
    """The columns of one version; the first is the name."""

    def __init__(self, columns: Sequence[Struct] | None) -> None:
        self.columns: tuple[Column, ...] = (printing.NAME,)
        self._paths: list[tuple[str, JsonPath]] = []
        for column in columns or (AGE,):
            path = column.get("jsonPath", "")
            try:
                self._paths.append((column.get("type", ""), parse(path)))
            except PathError:
                break  # those after a column that cannot be read are not shown either
            self.columns += (_column(column, path),)

    def cells(self, obj: Struct, now: float) -> list[Any]:
        """One value for each column; None for what is not there."""
        return [printing.name(obj), *(_cell(kind, path, obj, now) for kind, path in self._paths)]


def _column(column: Struct, path: str) -> Column:
    described = column.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
    return Column(
        column.get("name", ""),
        column.get("type", ""),
        column.get("format", ""),
        described,
        column.get("priority") or 0,
    )


def _cell(kind: str, path: JsonPath, obj: Struct, now: float) -> Any:
    try:
        found = path.find(obj)
    except PathError:
        return None
    if not found:
        return None
    value = found[0]
    if kind == "string":
        return text(value)
    return None if value is None else _typed(kind, value, now)


def _typed(kind: str, value: Any, now: float) -> Any:
    """A value as its column's type wants it; None if it is of another."""
    if kind in ("integer", "number") and value.__class__ in (int, float):
        return int(value) if kind == "integer" or float(value).is_integer() else value
    if kind == "boolean" and isinstance(value, bool):
        return value
    return _date(value, now) if kind == "date" and isinstance(value, str) else None


def _date(value: str, now: float) -> str:
    if value in ("", "null"):
        return printing.UNKNOWN
    try:
        return printing.human_duration(now - parse_rfc3339(value))
    except ValueError:
        return "<invalid>"


def text(value: Any) -> str:
    """Anything as text: strings bare, numbers by %v, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return number(value)
    return "<no value>" if value is None else shown(value)
