"""Bytes of a request to parsed JSON values, with what strict decoding wants to know about duplicates.

JSON goes through orjson, which keeps the last of duplicate keys without a word; `duplicate_fields` reads the text
again when a cheap count says that there were some. YAML goes through libyaml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tiphys.base.errors import BadRequest, UnsupportedMediaType

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_KEY = re.compile(rb'"\s*:')


@dataclass(slots=True)
class Parsed:
    """A parsed body. `text` is kept for JSON, to look for duplicate keys; YAML's are in `problems`."""

    value: Any
    text: bytes = b""
    problems: list[str] = field(default_factory=list)


def media_type(content_type: str) -> str:
    """The type without parameters; JSON when the header is missing."""
    if content_type == JSON:
        return JSON
    kind = content_type.partition(";")[0].strip().lower()
    return kind or JSON


def parse(body: bytes, content_type: str, accepted: tuple[str, ...] = (JSON, YAML)) -> Parsed:
    """Raises UnsupportedMediaType and, for text that is not of the type it says, ValueError."""
    kind = media_type(content_type)
    if kind not in accepted:
        listing = ", ".join((JSON, YAML, PROTOBUF))
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: " + listing
        )
    return parse_yaml(body) if kind == YAML else parse_json(body)


def parse_json(body: bytes) -> Parsed:
    """Raises ValueError with Go's words where they can be had."""
    try:
        return Parsed(orjson.loads(body), body)
    except orjson.JSONDecodeError as error:
        raise ValueError(_json_problem(body, error)) from error


def parse_yaml(body: bytes) -> Parsed:
    """One YAML document; keys become strings and the scalars are those of JSON. Raises ValueError."""
    import yaml

    from tiphys.api.decode.yaml_loader import MAX_NODES, Loader, expanded_size, too_deep

    loader = Loader(body)
    try:
        if too_deep(body):
            raise RecursionError
        value = loader.get_single_data()
        excessive = b"*" in body and expanded_size(value) > MAX_NODES
    except yaml.YAMLError as error:
        raise ValueError(f"error converting YAML to JSON: yaml: {_yaml_problem(error)}") from error
    except RecursionError as error:
        raise ValueError("error converting YAML to JSON: yaml: exceeded max depth") from error
    finally:
        loader.dispose()
    if excessive:
        raise ValueError("error converting YAML to JSON: yaml: document contains excessive aliasing")
    return Parsed(value, problems=loader.problems)


def key_count(text: bytes) -> int:
    """At least the number of keys in a JSON text; more if strings hold what looks like keys."""
    return len(_KEY.findall(text))


def duplicate_fields(text: bytes) -> list[str]:
    """Paths of keys that come twice in one object of a JSON text, in the order of the text."""
    return list(dict.fromkeys(path for path, again in _keys(text) if again))


def in_order(text: bytes, unknown: Sequence[str], duplicate: Sequence[str]) -> list[str]:
    """What strict decoding says of both, where the text comes to it."""
    places = {(path, again): number for number, (path, again) in reversed([*enumerate(_keys(text))])}
    found = [(places.get((path, False), -1), f'unknown field "{path}"') for path in unknown]
    found += [(places[path, True], f'duplicate field "{path}"') for path in duplicate]
    return [problem for _, problem in sorted(found, key=lambda one: one[0])]


def _keys(text: bytes) -> list[tuple[str, bool]]:
    """The path of each key in the order of a JSON text, and whether its object had it before."""

    def collect(pairs: list[tuple[str, Any]]) -> _Pairs:
        return _Pairs(pairs)

    try:
        return list(_walk(json.loads(text, object_pairs_hook=collect), ""))
    except RecursionError:
        return []  # nested so deeply that it cannot be decoded as anything but free JSON


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs."""


def _walk(value: Any, path: str) -> Iterator[tuple[str, bool]]:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, child in value:
            where = f"{path}.{key}" if path else key
            yield where, key in seen
            seen.add(key)
            yield from _walk(child, where)
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _walk(child, f"{path}[{number}]")


def _json_problem(body: bytes, error: orjson.JSONDecodeError) -> str:
    if not body.strip():
        return "unexpected end of JSON input"
    try:
        body.decode()
    except UnicodeDecodeError:
        return "invalid character '\\ufffd' in string literal"
    if error.pos >= len(error.doc.rstrip()):
        return "unexpected end of JSON input"
    return f"invalid character '{error.doc[error.pos]}' looking for beginning of value"


def _yaml_problem(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)


def require_object(value: Any) -> dict[str, Any]:
    """The value if it is an object. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest("the body of the request must be an object")
    return value
