"""A request's body to a canonical object of the expected kind, with fieldValidation's warnings and refusals.

The endpoints call `Codec.decode` for POST and PUT and `Codec.normalize` for what a patch or an admission
plugin produced. Wordings are upstream's (endpoints/handlers, serializer/json).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tiphys.api.decode import body as bodies
from tiphys.api.decode.objects import DecodeError, Decoder, Pass
from tiphys.api.decode.strict import unknown_fields
from tiphys.api.schema import Definitions, Type
from tiphys.base.errors import BadRequest

UNTYPED = "couldn't get version/kind; json parse error: "
STRUCT = r'{ APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'
SCHEMES = {
    "apiextensions.k8s.io": "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:55",
    "apiregistration.k8s.io": "k8s.io/kube-aggregator/pkg/apiserver/scheme/scheme.go:28",
}
"""What upstream calls its registries of kinds; the others are in one."""
SUMMARY = 30
"""So much of a body (bytes) is repeated in the refusal of what cannot be read."""
STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"


@dataclass(frozen=True, slots=True)
class Decoded:
    """An object of the expected kind; `warnings` are texts for the Warning header."""

    obj: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """What the endpoint takes. `others` are further (group, version) pairs that it accepts in the body."""

    group: str
    version: str
    kind: str
    type: Type | None
    """None: no schema (an opaque custom resource); the object is kept as it came."""
    others: tuple[tuple[str, str], ...] = field(default=())
    api_version: str = field(init=False)

    def __post_init__(self) -> None:
        own = f"{self.group}/{self.version}" if self.group else self.version
        object.__setattr__(self, "api_version", own)


class Codec:
    """Decoding for one set of definitions. Keep one: it caches a function a type."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.decoder = Decoder(definitions)

    def decode(self, body: bytes, content_type: str, expected: Expected, validation: str = WARN) -> Decoded:
        """Raises BadRequest, UnsupportedMediaType."""
        try:
            parsed = bodies.parse(body, content_type)
        except ValueError as error:
            raise BadRequest(_unreadable(expected.kind, f"{UNTYPED}{error}", body)) from error
        return self.accept(parsed, expected, validation)

    def accept(self, parsed: bodies.Parsed, expected: Expected, validation: str = WARN) -> Decoded:
        """As `decode`, for a body that was parsed already (patches, local callers). Raises BadRequest."""
        value = {} if parsed.value is None and _named(expected) else parsed.value
        if not isinstance(value, dict):
            message = f"{UNTYPED}json: cannot unmarshal {_json_name(value)} into Go value of type struct {STRUCT}"
            raise BadRequest(_unreadable(expected.kind, message, parsed.text))
        api_version, kind = self._check_kind(value, expected, parsed.text)
        state = Pass()
        try:
            obj = self._canonical(value, expected.type, state)
        except DecodeError as error:
            raise _refused(kind, api_version, expected.kind, str(error)) from error
        obj["apiVersion"], obj["kind"] = api_version, kind
        problems = [] if validation == IGNORE else self._problems(parsed, expected.type, state)
        if problems and validation == STRICT:
            raise _refused(kind, api_version, expected.kind, f"strict decoding error: {', '.join(problems)}")
        self._check_version(api_version, expected)
        return Decoded(obj, tuple(problems))

    def normalize(self, value: Mapping[str, Any], type: Type | None) -> dict[str, Any]:
        """The canonical form of an object that is of the right kind. Raises DecodeError."""
        obj = self._canonical(dict(value), type, Pass())
        return obj

    def _canonical(self, value: dict[str, Any], type: Type | None, state: Pass) -> dict[str, Any]:
        return value if type is None else self.decoder.decode(value, type, state)

    def _problems(self, parsed: bodies.Parsed, type: Type | None, state: Pass) -> list[str]:
        if type is None:
            return list(parsed.problems)
        unknown = unknown_fields(parsed.value, type, self.definitions) if state.unknown else []
        # Pruned subtrees are not counted, so an unknown field makes the counts differ: the slow look decides.
        counted = not parsed.text or bodies.key_count(parsed.text) == state.keys
        duplicate = [] if counted else bodies.duplicate_fields(parsed.text)
        if unknown and duplicate and type.custom is None:
            return [*parsed.problems, *bodies.in_order(parsed.text, unknown, duplicate)]
        # Upstream decodes custom resources as free JSON first, which finds what comes twice.
        problems = [*parsed.problems, *(f'duplicate field "{path}"' for path in duplicate)]
        return [*problems, *(f'unknown field "{path}"' for path in unknown)]

    def _check_kind(self, value: Mapping[str, Any], expected: Expected, text: bytes = b"") -> tuple[str, str]:
        """apiVersion and kind, defaulted from the endpoint."""
        api_version, kind = value.get("apiVersion") or "", value.get("kind") or ""
        for name, found in (("apiVersion", api_version), ("kind", kind)):
            if not isinstance(found, str):
                problem = f"json: cannot unmarshal {_json_name(found)} into Go struct field .{name} of type string"
                raise BadRequest(_unreadable(expected.kind, f"{UNTYPED}{problem}", text))
        if expected.type is not None and expected.type.custom is not None:
            return self._custom_kind(value, expected)
        if api_version.count("/") > 1:
            raise BadRequest(_unreadable(expected.kind, f"unexpected GroupVersion string: {api_version}", text))
        api_version, kind = api_version or expected.api_version, kind or expected.kind
        if api_version == expected.api_version and kind == expected.kind:
            return api_version, kind
        if kind != expected.kind:
            raise _refused(kind, api_version, expected.kind, self._wrong_kind(api_version, kind, expected))
        group, version = split_api_version(api_version)
        foreign = (group, version) not in ((expected.group, expected.version), *expected.others)
        if foreign and not self.definitions.knows(group, version, kind):
            raise _refused(kind, api_version, expected.kind, _unregistered(api_version, kind, expected))
        return api_version, kind

    def _custom_kind(self, value: Mapping[str, Any], expected: Expected) -> tuple[str, str]:
        """Custom resources must say what they are; whether it is the right thing is looked at by validation."""
        for name, title in (("kind", "Kind"), ("apiVersion", "apiVersion")):
            if not value.get(name):
                text = f"Object '{title}' is missing in '{orjson.dumps(value).decode()}'"
                raise _refused(expected.kind, expected.api_version, expected.kind, text)
        return value["apiVersion"], value["kind"]

    def _wrong_kind(self, api_version: str, kind: str, expected: Expected) -> str:
        group, version = split_api_version(api_version)
        if not self.definitions.knows(group, version, kind):
            return _unregistered(api_version, kind, expected)
        package = expected.group.partition(".")[0] or "core"
        return f"converting (v1.{kind}) to ({package}.{expected.kind}): unknown conversion"

    def _check_version(self, api_version: str, expected: Expected) -> None:
        if api_version == expected.api_version:
            return
        if split_api_version(api_version) not in ((expected.group, expected.version), *expected.others):
            message = f"the API version in the data ({api_version}) does not match the expected API version"
            raise BadRequest(f"{message} ({expected.api_version})")


def split_api_version(api_version: str) -> tuple[str, str]:
    """apps/v1: ("apps", "v1"); v1: ("", "v1")."""
    group, slash, version = api_version.rpartition("/")
    return (group, version) if slash else ("", api_version)


def _refused(kind: str, api_version: str, wanted: str, problem: str) -> BadRequest:
    version = split_api_version(api_version)[1]
    return BadRequest(f'{kind} in version "{version}" cannot be handled as a {wanted}: {problem}')


def _unregistered(api_version: str, kind: str, expected: Expected) -> str:
    scheme = SCHEMES.get(expected.group, "pkg/api/legacyscheme/scheme.go:30")
    return f'no kind "{kind}" is registered for version "{api_version}" in scheme "{scheme}"'


def _named(expected: Expected) -> bool:
    """Whether the endpoint knows the kind of a body that names none: custom resources must say what they are."""
    return expected.type is None or expected.type.custom is None


def _unreadable(wanted: str, problem: str, body: bytes) -> str:
    shown, tail = body[:SUMMARY], " ..." if len(body) > SUMMARY else ""
    text = shown.decode("utf-8", "replace") if shown.startswith(b"{") else shown.hex()
    return f"the object provided is unrecognized (must be of type {wanted}): {problem} ({text or '<empty>'}{tail})"


def _json_name(value: Any) -> str:
    from tiphys.api.decode.values import json_type

    return json_type(value)
