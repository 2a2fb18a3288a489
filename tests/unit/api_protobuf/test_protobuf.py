"""Objects of built-in kinds as upstream's generated code writes them, and back."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.api import schema
from tiphys.api.decode.request import Codec, split_api_version
from tiphys.api.protobuf import envelope
from tiphys.api.protobuf.codec import META, UnknownKind, builtin, decode, encode
from tiphys.base.errors import BadRequest
from tiphys.base.protowire import Malformed, delimited

EMPTY_META = "0a 00 12 00 1a 00 22 00 2a 00 32 00 38 00 42 00"
"""Name, generateName, namespace, selfLink, uid, resourceVersion, generation, creationTimestamp: always there."""


def pod(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "i", "resources": {}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "creationTimestamp": "2024-01-02T03:04:05Z"},
        "spec": {"containers": containers, **spec},
        "status": {},
    }


def config_map(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, **fields}


def body(api_version: str, kind: str, raw: str) -> bytes:
    return envelope.pack(api_version, kind, bytes.fromhex(raw))


def test_a_nearly_empty_object_has_its_plain_values_and_structs_but_no_pointers() -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}
    raw = "6b 38 73 00 0a 0f 0a 02 76 31 12 09 43 6f 6e 66 69 67 4d 61 70 12 12 0a 10" + EMPTY_META + "1a 00 22 00"
    assert encode(obj) == bytes.fromhex(raw)


def test_a_nearly_empty_service_writes_its_strings_and_zero_numbers() -> None:
    raw = builtin().message("io.k8s.api.core.v1.ServiceSpec", {})
    assert raw == bytes.fromhex("1a00 2200 3a00 4200 5200 5a00 6000 6800".replace(" ", ""))


def test_map_entries_are_sorted_and_hold_key_and_value() -> None:
    raw = encode(config_map(data={"b": "", "a": "1"}))
    assert bytes.fromhex("12 06 0a 01 61 12 01 31  12 05 0a 01 62 12 00") in raw


@pytest.mark.parametrize(
    "obj",
    [
        pod(),
        pod(terminationGracePeriodSeconds=0, hostNetwork=True, volumes=[{"name": "v", "emptyDir": {}}]),
        pod(nodeSelector={"ü": "日本", "a": ""}),
        config_map(data={"k": "v\n"}, binaryData={"b": "AAEC/w==", "e": ""}, immutable=False),
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {"name": "r"},
            "data": {"spec": {"x": [1, 2.5, None, {"y": "z"}]}},
            "revision": 7,
        },
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "l"},
            "spec": {"renewTime": "2024-01-02T03:04:05.000600Z", "leaseDurationSeconds": -1},
        },
        {
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "message": "m",
            "details": {"causes": [{"field": "f"}]},
            "code": 404,
        },
        {"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}},
    ],
)
def test_what_is_written_reads_back_the_same(obj: dict[str, Any]) -> None:
    codec = Codec(schema.builtin())
    name = schema.builtin().name_of(*split_api_version(obj["apiVersion"]), obj["kind"]) or META + obj["kind"]
    canonical = codec.normalize(obj, schema.builtin().type(name))
    canonical.update(apiVersion=obj["apiVersion"], kind=obj["kind"])
    assert decode(encode(canonical)) == canonical


def test_quantities_and_int_or_string_have_messages_of_their_own() -> None:
    limits = {"limits": {"cpu": "100m"}}
    probe = {"httpGet": {"port": "http"}}
    obj = pod(containers=[{"name": "c", "resources": limits, "livenessProbe": probe}])
    raw = encode(obj)
    assert b"\x0a\x03cpu\x12\x06\x0a\x04100m" in raw
    assert b"\x08\x01\x10\x00\x1a\x04http" in raw
    assert decode(raw)["spec"]["containers"][0]["livenessProbe"] == probe


def test_schemas_of_custom_resources_keep_their_unions() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "string"}, "default": []}},
        "additionalProperties": False,
        "dependencies": {"x": ["y"], "z": {"type": "string"}},
        "enum": [None, 1, "two"],
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    obj = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "a.b"},
        "spec": {"group": "b", "scope": "Cluster", "names": {"plural": "a", "kind": "A"}, "versions": [version]},
    }
    assert decode(encode(obj))["spec"]["versions"][0]["schema"]["openAPIV3Schema"] == schema


def test_extra_values_are_messages_that_hold_the_list() -> None:
    obj = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {},
        "spec": {},
        "status": {"user": {"extra": {"k": ["a", "b"], "none": []}}},
    }
    assert b"\x0a\x01k\x12\x06\x0a\x01a\x0a\x01b" in encode(obj)


def test_versions_that_are_not_served_have_messages_too() -> None:
    obj = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "p"}}
    assert decode(encode(obj))["metadata"]["name"] == "p"


def test_a_watch_event_frame_has_its_length_in_front() -> None:
    inner = encode(config_map())
    framed = envelope.frame("ADDED", inner)
    assert int.from_bytes(framed[:4], "big") == len(framed) - 4
    event = envelope.pack("v1", "WatchEvent", framed[4:])
    assert builtin().parse(event)["object"] == builtin().parse(inner)
    assert builtin().message(META + "WatchEvent", {"type": "X", "object": None}) == b"\x0a\x01X\x12\x00"


def test_custom_resources_have_no_messages() -> None:
    assert not builtin().knows("example.com/v1", "Widget")
    with pytest.raises(UnknownKind):
        encode({"apiVersion": "example.com/v1", "kind": "Widget"})


def test_a_message_that_comes_twice_is_merged_and_the_last_scalar_wins() -> None:
    raw = "0a 03 0a 01 610a 03 1a 01 6e0a 03 0a 01 62"
    assert decode(body("v1", "ConfigMap", raw))["metadata"] == {"name": "b", "namespace": "n"}


def test_unknown_fields_are_skipped_groups_too() -> None:
    raw = "0a 03 0a 01 61f8 07 05f9 07 0000000000000000fd 07 00000000fa 07 02 ff fffb 07 08 01 fc 07"
    assert decode(body("v1", "ConfigMap", raw))["metadata"]["name"] == "a"


def test_a_map_entry_without_a_value_holds_the_empty_one() -> None:
    obj = decode(body("v1", "ConfigMap", "12 03 0a 01 61  1a 03 0a 01 62"))
    assert (obj["data"], obj["binaryData"]) == ({"a": ""}, {"b": ""})
    assert bytes.fromhex("1a 03 0a 01 62") in encode(config_map(binaryData={"b": None}))


def test_the_zero_time_is_an_empty_message() -> None:
    raw = builtin().message("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", {"creationTimestamp": None})
    assert raw.endswith(b"\x42\x00")


def test_times_out_of_range_are_refused() -> None:
    with pytest.raises(BadRequest, match="outside of range"):
        decode(body("v1", "ConfigMap", "0a 0e 42 0c 08 ff ff ff ff ff ff ff ff 7f 10 00"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty data"),
        (b"{}", "does not appear to be a protobuf message"),
        (b"k8s\0", "empty body"),
        (b"k8s\0\xff", "unexpected EOF"),
        (b"k8s\0\x12\x00", "Kind"),
        (body("example.com/v1", "Widget", ""), 'no kind "Widget" is registered for version "example.com/v1"'),
        (body("v1", "ConfigMap", "0a 05 0a"), "unexpected EOF"),
        (body("v1", "ConfigMap", "0a 01 0a"), "unexpected EOF"),
        (body("v1", "ConfigMap", "08 01"), "wrong wireType = 0 for field metadata"),
        (body("v1", "ConfigMap", "0a ff ff ff ff ff ff ff ff ff 01"), "negative length"),
        (body("v1", "ConfigMap", "80 80 80 80 80 80 80 80 80 80 01"), "integer overflow"),
        (body("v1", "ConfigMap", "00"), "illegal tag"),
        (body("v1", "ConfigMap", "ff 07"), "illegal wireType 7"),
        (body("v1", "ConfigMap", "fc 07"), "unexpected end of group"),
        (body("apps/v1", "ControllerRevision", "12 03 0a 01 7b"), "json"),
    ],
)
def test_what_is_malformed_is_refused_with_its_reason(data: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        decode(data)


def test_deep_nesting_is_refused() -> None:
    raw = b""
    for _ in range(5000):
        raw = b"\xe2\x01" + delimited(raw)
    schema = b"\x3a" + delimited(b"\x22" + delimited(b"\x0a" + delimited(raw)))
    data = envelope.pack("apiextensions.k8s.io/v1", "CustomResourceDefinition", b"\x12" + delimited(schema))
    with pytest.raises(BadRequest, match="nested too deep"):
        decode(data)


SAMPLES = [encode(pod()), encode(config_map(data={"k": "v"}, binaryData={"b": "AA=="}))]


@given(st.sampled_from(SAMPLES), st.data())
def test_damaged_bodies_are_read_or_refused_but_never_crash(sample: bytes, data: st.DataObject) -> None:
    damaged = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(4, len(damaged)))
    with contextlib.suppress(Malformed, UnknownKind):
        builtin().parse(bytes(damaged[:cut]))


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(raw: bytes) -> None:
    for kind in ("Pod", "ConfigMap", "Node"):
        try:
            decode(envelope.pack("v1", kind, raw))
        except BadRequest:
            continue


def test_versions_of_the_past_have_their_own_messages() -> None:
    backend = {"serviceName": "web", "servicePort": 80}
    spec = {"rules": [{"host": "x", "http": {"paths": [{"path": "/", "backend": backend}]}}]}
    old = {"apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": "web"}, "spec": spec}
    found = builtin().parse(builtin().encode(old))
    assert found["spec"]["rules"] == spec["rules"]
