"""Protobuf at the door: which answers are in it, and which bodies are refused."""

from __future__ import annotations

import pytest

from tiphys.api import schema
from tiphys.api.decode.request import Codec, Expected, split_api_version
from tiphys.api.protobuf.envelope import pack
from tiphys.apiserver import bodies, negotiate
from tiphys.base.errors import BadRequest, NotAcceptable, UnsupportedMediaType
from tiphys.base.http.types import Request

BOTH = "application/vnd.kubernetes.protobuf,application/json"
PARTIAL = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
TABLE = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1"


def asked(accept: str, api_version: str = "v1", kind: str = "Pod") -> negotiate.Media:
    return negotiate.accepted(Request("GET", "/", headers={"accept": accept}), api_version, kind)


def test_a_built_in_kind_is_answered_in_protobuf_when_that_is_preferred() -> None:
    assert asked(BOTH).type == negotiate.PROTOBUF
    assert asked("application/json,application/vnd.kubernetes.protobuf").type == negotiate.JSON


def test_a_custom_resource_has_no_protobuf() -> None:
    assert asked(BOTH, "example.com/v1", "Widget").type == negotiate.JSON
    with pytest.raises(NotAcceptable, match=r"application/json, application/yaml$"):
        asked(negotiate.PROTOBUF, "example.com/v1", "Widget")


def test_metadata_has_protobuf_and_tables_do_not() -> None:
    assert asked(PARTIAL, "example.com/v1", "Widget").shown_as == "PartialObjectMetadata"
    assert asked(f"{TABLE},application/json").shown_as == ""
    with pytest.raises(NotAcceptable):
        asked(TABLE)


def test_a_refusal_names_protobuf_where_it_is_served() -> None:
    with pytest.raises(NotAcceptable, match=r"application/vnd\.kubernetes\.protobuf"):
        asked("text/html")


def sent(body: bytes, api_version: str = "v1", kind: str = "ConfigMap") -> None:
    group, version = split_api_version(api_version)
    expected = Expected(group, version, kind, schema.builtin().of(group, version, kind))
    request = Request("POST", "/", headers={"content-type": negotiate.PROTOBUF}, body=body)
    bodies.decode(Codec(schema.builtin()), request, expected, "Warn")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", r"the object provided is unrecognized \(must be of type ConfigMap\): empty data \(<empty>\)"),
        (b"k8s\0\xff", r"must be of type ConfigMap\): unexpected EOF \(6b387300ff\)"),
        (
            pack("v1", "ConfigMap", b"\x0a\x05"),
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: unexpected',
        ),
        (pack("e.com/v1", "W", b""), 'W in version "v1" cannot be handled as a ConfigMap: no kind "W" is registered'),
        (pack("v1", "Secret", b""), 'Secret in version "v1" cannot be handled as a ConfigMap'),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_what_it_is(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        sent(body)


def test_a_custom_resource_cannot_be_sent_as_protobuf() -> None:
    with pytest.raises(UnsupportedMediaType):
        sent(pack("e.com/v1", "W", b""), "e.com/v1", "W")
