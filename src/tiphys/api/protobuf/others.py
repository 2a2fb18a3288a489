"""Types that the published schema leaves out but clients may still send: data/messages.txt, read when one is met."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tiphys.api.schema import Field, Shape, Type, shape_of

TABLE = Path(__file__).parent.parent / "data" / "messages.txt"
ROOT = "io.k8s."
_FIELD = re.compile(r"(\S+?)=([\d.]+)([*!~]*):([\[{]*)(\S+)")


@cache
def kinds() -> Mapping[tuple[str, str], str]:
    """(apiVersion, kind) -> the name of its type."""
    found = {}
    for name, api_version, _ in _lines():
        if api_version != "-":
            found[api_version, name.rpartition(".")[2]] = name
    return found


def types() -> list[Type]:
    """All of them."""
    return [
        Type(name, {match[1]: _field(match, name.rpartition(".")[0]) for match in _FIELD.finditer(fields)})
        for name, _, fields in _lines()
    ]


def _lines() -> list[tuple[str, str, str]]:
    lines = (line.split(" ", 2) for line in TABLE.read_text().splitlines() if not line.startswith("#"))
    return [(ROOT + name, api_version, rest[0] if rest else "") for name, api_version, *rest in lines]


def _field(match: re.Match[str], package: str) -> Field:
    name, number, marks, around, code = match.groups()
    shape: Shape
    if code.startswith("@"):
        shape = Shape("object", ROOT + code[1:] if "." in code else f"{package}.{code[1:]}")
    else:
        shape = shape_of(code)
    for letter in reversed(around):
        shape = Shape("array" if letter == "[" else "map", items=shape)
    return Field(name, shape, pointer="*" in marks, always="!" in marks, omit_zero="~" in marks, number=number)
