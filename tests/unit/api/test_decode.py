"""Decoding: canonical forms, refusals in Go's words, strict decoding, YAML."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tiphys.api import schema
from tiphys.api.decode.body import parse_json, parse_yaml
from tiphys.api.decode.request import Codec, Expected
from tiphys.base.errors import BadRequest, UnsupportedMediaType

DEFINITIONS = schema.builtin()
CODEC = Codec(DEFINITIONS)


def expected(kind: str, group: str = "", version: str = "v1") -> Expected:
    return Expected(group, version, kind, DEFINITIONS.of(group, version, kind))


def decode(obj: Any, validation: str = "Warn", *, kind: str = "", group: str = "") -> Any:
    wanted = expected(kind or obj["kind"], group)
    return CODEC.decode(json.dumps(obj).encode(), "application/json", wanted, validation)


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [], **spec}}


def refusal(obj: Any, validation: str = "Warn", **options: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        decode(obj, validation, **options)
    return caught.value.message


def test_structs_are_always_there_and_empty_values_are_not() -> None:
    container = {"name": "c", "image": "", "args": [], "env": None, "stdin": False, "ports": [{"hostPort": 0}]}
    done = decode(pod(containers=[container], nodeSelector={}, hostNetwork=False)).obj
    assert done["spec"]["containers"] == [{"name": "c", "resources": {}, "ports": [{"containerPort": 0}]}]
    assert done["spec"].keys() == {"containers"}
    assert done["status"] == {}


def test_pointers_keep_what_is_empty() -> None:
    spec = {"terminationGracePeriodSeconds": 0, "enableServiceLinks": False, "runtimeClassName": ""}
    assert spec.items() <= decode(pod(**spec)).obj["spec"].items()


def test_lists_that_are_always_written_are_null_when_empty() -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": []}
    assert decode(role, group="rbac.authorization.k8s.io").obj["rules"] is None
    assert decode(pod()).obj["spec"]["containers"] is None


def test_quantities_times_and_bytes_are_canonical() -> None:
    resources = {"limits": {"cpu": "1000m", "memory": 1024, "x/y": " 0.5Gi"}}
    done = decode(pod(containers=[{"name": "c", "resources": resources}])).obj
    assert done["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1024", "x/y": "512Mi"}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {}, "firstTimestamp": "2026-01-02T05:04:05.9+02:00"}
    event["eventTime"] = "2026-01-02T03:04:05.500000Z"
    done = decode(event).obj
    assert done["firstTimestamp"] == "2026-01-02T03:04:05Z"
    assert done["eventTime"] == "2026-01-02T03:04:05.500000Z"
    assert done["lastTimestamp"] is None
    secret = {"apiVersion": "v1", "kind": "Secret", "data": {"a": "YQ==\n"}}
    assert decode(secret).obj["data"] == {"a": "YQ=="}


def test_int_or_string_and_raw_values_stay() -> None:
    probe = {"httpGet": {"port": "web"}}
    done = decode(pod(containers=[{"name": "c", "readinessProbe": probe}])).obj
    assert done["spec"]["containers"][0]["readinessProbe"] == probe
    revision = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": {"x": [1, None]}, "revision": 1}
    assert decode(revision, group="apps").obj["data"] == {"x": [1, None]}


def test_null_items_are_zero_values() -> None:
    done = decode(pod(containers=[None], nodeSelector={"a": None})).obj
    assert done["spec"]["containers"] == [{"name": "", "resources": {}}]
    assert done["spec"]["nodeSelector"] == {"a": ""}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": None}}
    assert decode(secret, kind="Secret").obj["data"] == {"a": ""}


HANDLED = 'Pod in version "v1" cannot be handled as a Pod: '


@pytest.mark.parametrize(
    ("spec", "found", "field"),
    [
        ({"containers": {}}, "object", "PodSpec.spec.containers of type []v1.Container"),
        ({"hostNetwork": "x"}, "string", "PodSpec.spec.hostNetwork of type bool"),
        ({"priority": 1.5}, "number 1.5", "PodSpec.spec.priority of type int32"),
        ({"priority": 2**40}, f"number {2**40}", "PodSpec.spec.priority of type int32"),
        ({"priority": True}, "bool", "PodSpec.spec.priority of type int32"),
        ({"nodeSelector": {"a": 1}}, "number", "PodSpec.spec.nodeSelector of type string"),
        ({"nodeSelector": []}, "array", "PodSpec.spec.nodeSelector of type map[string]string"),
        ({"containers": [{"tty": "x"}]}, "string", "Container.spec.containers.tty of type bool"),
    ],
)
def test_wrong_types_are_refused(spec: Any, found: str, field: str) -> None:
    assert refusal(pod(**spec)) == HANDLED + f"json: cannot unmarshal {found} into Go struct field {field}"


@pytest.mark.parametrize(
    ("amount", "problem"),
    [
        ("1x", "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        ("1Kim", "unable to parse quantity's suffix"),
    ],
)
def test_wrong_quantities_are_refused(amount: str, problem: str) -> None:
    assert refusal(pod(overhead={"cpu": amount})) == HANDLED + problem


def test_bad_content_is_refused() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "data": {"a": "Not_A_Name!"}}
    head = 'Secret in version "v1" cannot be handled as a Secret: '
    assert refusal(secret) == head + "illegal base64 data at input byte 3"
    event = {"apiVersion": "v1", "kind": "Event", "firstTimestamp": "soon"}
    problem = 'parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006"'
    assert refusal(event) == 'Event in version "v1" cannot be handled as a Event: ' + problem


def test_unknown_fields() -> None:
    obj = pod(foo=1, containers=[{"name": "c", "bar": {"baz": 1}}])
    done = decode(obj)
    assert done.warnings == ('unknown field "spec.containers[0].bar"', 'unknown field "spec.foo"')
    assert "foo" not in done.obj["spec"]
    assert decode(obj, "Ignore").warnings == ()
    assert refusal(obj, "Strict") == HANDLED + (
        'strict decoding error: unknown field "spec.containers[0].bar", unknown field "spec.foo"'
    )


def test_duplicate_fields() -> None:
    text = b'{"apiVersion":"v1","kind":"Pod","spec":{"nodeName":"a", "nodeName":"b"}}'
    done = CODEC.decode(text, "application/json", expected("Pod"))
    assert done.warnings == ('duplicate field "spec.nodeName"',)
    assert done.obj["spec"]["nodeName"] == "b"


def test_what_looks_like_a_key_in_a_string_is_none() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": '{"a":1,"a":2}'}}
    assert decode(config).warnings == ()


def test_other_kinds_are_refused() -> None:
    service = {"apiVersion": "v1", "kind": "Service"}
    problem = "converting (v1.Service) to (core.Pod): unknown conversion"
    assert refusal(service, kind="Pod") == f'Service in version "v1" cannot be handled as a Pod: {problem}'
    assert 'no kind "Foo" is registered for version "x/v1"' in refusal(
        {"apiVersion": "x/v1", "kind": "Foo"}, kind="Pod"
    )
    hpa = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler"}
    body = json.dumps(hpa).encode()
    with pytest.raises(BadRequest, match="the API version in the data") as caught:
        CODEC.decode(body, "application/json", expected("HorizontalPodAutoscaler", "autoscaling", "v2"))
    assert caught.value.message == (
        "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"
    )


def test_kind_and_version_default_to_the_endpoints() -> None:
    done = decode({"metadata": {"name": "p"}, "spec": {}}, kind="Pod")
    assert (done.obj["apiVersion"], done.obj["kind"]) == ("v1", "Pod")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"kind": 1}', b"\xff"])
def test_bodies_that_are_no_objects(body: bytes) -> None:
    with pytest.raises(BadRequest, match="the object provided is unrecognized"):
        CODEC.decode(body, "application/json", expected("Pod"))


def test_media_types() -> None:
    with pytest.raises(UnsupportedMediaType):
        CODEC.decode(b"x", "text/plain", expected("Pod"))
    body = b"kind: Pod\napiVersion: v1\nspec: {nodeName: a}\n"
    done = CODEC.decode(body, "application/yaml; charset=utf-8", expected("Pod"))
    assert done.obj["spec"]["nodeName"] == "a"


def test_yaml_scalars_are_those_of_manifests() -> None:
    text = b"a: 80:80\nb: 1.0\nc: 2020-01-01\nd: yes\ne: 0777\nf: 1e3\n1: x\ntrue: z\nh: ~\ni: 0x10\nm: 1.2.3\n"
    assert parse_yaml(text).value == {
        "a": "80:80", "b": 1, "c": "2020-01-01", "d": True, "e": 511, "f": 1000, "1": "x", "true": "z", "h": None,
        "i": 16, "m": "1.2.3",
    }  # fmt: skip
    assert parse_yaml(b"a: 1\na: 2\n").problems == ['line 2: key "a" already set in map']


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"a: !!set {b, c}", {"a": {"b": None, "c": None}}),
        (b"a: !!omap [b: c]", {"a": [{"b": "c"}]}),
        (b"a: !!pairs [b: c]", {"a": [{"b": "c"}]}),
    ],
)
def test_yamls_other_collections_are_maps_and_lists(text: bytes, value: Any) -> None:
    assert parse_yaml(text).value == value


@pytest.mark.parametrize(
    "text", [b"a: !!set [b]", b"a: !!map [b]", b"a: !!omap {b: c}", b"a: !!bool maybe", b"a: !!int -"]
)
def test_yaml_whose_tags_do_not_fit_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"YAML|invalid"):
        parse_yaml(text)


def test_yaml_bombs_are_refused() -> None:
    text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    text += "".join(
        f"{key}: &{key} [{','.join([f'*{before}'] * 10)}]\n" for before, key in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(ValueError, match="excessive aliasing"):
        parse_yaml(text.encode())


def test_json_that_ends_too_soon_is_named() -> None:
    with pytest.raises(ValueError, match="unexpected end of JSON input"):
        parse_json(b'{"a": ')


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 1_000_000,
        b"[" * 1_000_000 + b"]" * 1_000_000,
        b"{a: " * 1_000_000,
        b"- " * 1_000_000,
        b"? " * 100_000,
        b"\n".join(b" " * depth + b"a:" for depth in range(1500)),
    ],
    ids=["flow", "closed", "mappings", "sequences", "keys", "block"],
)
def test_yaml_of_any_depth_is_refused_and_ends_nothing(text: bytes) -> None:
    with pytest.raises(ValueError, match="yaml"):
        parse_yaml(text)


def test_a_large_mapping_cannot_be_merged_into_many() -> None:
    large = ",".join(f"k{n}: 1" for n in range(2000))
    text = f"a: &a {{{large}}}\nb: [{','.join(['{<<: *a}'] * 3000)}]"
    start = time.process_time()
    with pytest.raises(ValueError, match="excessive aliasing"):
        parse_yaml(text.encode())
    assert time.process_time() - start < 2  # seconds; it was eight


def test_yaml_that_contains_itself_is_refused() -> None:
    for text in (b"a: &a [*a]\n", b"a: &a {b: *a}\n", b"&a [*a, *a]\n"):
        with pytest.raises(ValueError, match="yaml"):
            parse_yaml(text)


def test_merge_keys_cannot_multiply_without_end() -> None:
    lines = [f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 30)}]}}" for level in range(1, 12)]
    lines.insert(0, "a0: &a0 {x: 1}")
    with pytest.raises(ValueError, match="excessive aliasing"):
        parse_yaml("\n".join(lines).encode())
    assert parse_yaml(b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n").value["b"] == {"x": 1, "y": 3}
