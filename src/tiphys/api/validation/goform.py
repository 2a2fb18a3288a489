"""Structs as answers show them when a whole struct is the bad value: by the names and in the order of Go's fields.

`data/goforms.txt` lists the fields of each struct. Each is a name and a sort: `s` text, `b` truth, `i` number and
`q` quantity, which have a zero; `p` anything that may be absent; `d` a map; `o` what is left out when empty; `Form`,
`*Form`, `[Form]` and `{Form}` a struct, one that may be absent, a list and a map of them, with `?` after it if what
is empty is left out. `name=json` is for fields whose JSON name, or dotted path, is not the Go one with a small first
letter; `name=` for fields that JSON has inlined. `+Form` stands for the fields of a struct that Go embeds,
`+Form=json` if JSON has it as a field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

Struct = Mapping[str, Any]

TABLE = Path(__file__).parent.parent / "data" / "goforms.txt"
_ZEROS: Mapping[str, Any] = {"s": "", "b": False, "i": 0, "p": None, "q": "0"}


@cache
def _forms() -> dict[str, str]:
    lines = (line for line in TABLE.read_text().splitlines() if not line.startswith("#"))
    return {name: fields for name, _, fields in (line.partition(" ") for line in lines)}


@lru_cache(256)
def _fields(form: str) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    return tuple(_described(form))


def _described(form: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(Go name, path in JSON, sort) of each field."""
    for field in _forms()[form].split():
        name, _, sort = field.partition(":")
        name, given, json_name = name.partition("=")
        if name[0] == "+":
            outer = (json_name,) if json_name else ()
            yield from ((inner, outer + path, kind) for inner, path, kind in _fields(name[1:]))
        elif given:
            yield name, tuple(json_name.split(".")) if json_name else (), sort
        else:
            yield name, (name[0].lower() + name[1:],), sort


def shown(form: str, value: Struct | None) -> dict[str, Any]:
    """`value`, a JSON object, as Go shows a struct of that form."""
    out = {}
    for name, path, sort in _fields(form):
        found: Any = value or {}
        for step in path:
            found = (found or {}).get(step)
        if found or (sort != "o" and sort[-1] != "?"):
            out[name] = _value(sort.removesuffix("?"), found)
    return out


def _value(sort: str, value: Any) -> Any:
    if sort in _ZEROS:
        return _ZEROS[sort] if value is None else value
    if sort in "do":
        return dict(sorted(value.items())) if isinstance(value, Mapping) else value
    if sort[0] == "[":
        return None if value is None else [shown(sort[1:-1], item) for item in value]
    if sort[0] == "{":
        return None if value is None else {key: shown(sort[1:-1], value[key]) for key in sorted(value)}
    if sort[0] == "*":
        return None if value is None else shown(sort[1:], value)
    return shown(sort, value)


def difference(form: str, old: Struct | None, new: Struct | None) -> str:
    """What changed between two structs of that form: a unified diff of them as they are shown, without file names."""
    before, after = (_lines(shown(form, struct)) for struct in (old, new))
    return "".join(list(unified_diff(before, after))[2:])


def _lines(value: Any) -> list[str]:
    text = json.dumps(value, ensure_ascii=False, indent=1)
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return [line + "\n" for line in text.split("\n")]
