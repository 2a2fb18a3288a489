"""Which answers are protobuf: what the client prefers, for kinds that have messages."""

from __future__ import annotations

import pytest

from tiphys.apiserver import negotiate
from tiphys.base.errors import NotAcceptable
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
    with pytest.raises(NotAcceptable, match="application/json, application/yaml$"):
        asked(negotiate.PROTOBUF, "example.com/v1", "Widget")


def test_metadata_has_protobuf_and_tables_do_not() -> None:
    assert asked(PARTIAL, "example.com/v1", "Widget").shown_as == "PartialObjectMetadata"
    assert asked(f"{TABLE},application/json").shown_as == ""
    with pytest.raises(NotAcceptable):
        asked(TABLE)


def test_a_refusal_names_protobuf_where_it_is_served() -> None:
    with pytest.raises(NotAcceptable, match="application/vnd.kubernetes.protobuf"):
        asked("text/html")
