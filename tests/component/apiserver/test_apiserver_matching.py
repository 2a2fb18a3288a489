"""What a route refuses before its endpoint looks at anything: methods, paths and media types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Play = Callable[..., None]
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("PUT", MAPS, 405),
        ("PATCH", MAPS, 405),
        ("POST", f"{MAPS}/a", 405),
        ("HEAD", MAPS, 405),
        ("POST", "/api/v1/watch/pods", 405),
        ("POST", "/api", 405),
        ("PATCH", "/apis/apps/v1", 405),
        ("HEAD", "/version", 405),
        ("POST", "/api/v1/bindings", 404),
        ("GET", "/api/v1/namespaces/default/bindings/x", 404),
        ("GET", f"{MAPS}/a/status/x", 404),
        ("GET", "/api/v2", 404),
        ("GET", "/apis/apps/v9", 404),
    ],
)
def test_methods_and_paths_that_are_not_there_are_refused_with_empty_details(
    play: Play, method: str, path: str, code: int
) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.json(method, path)
        assert (refused["code"], refused["details"]) == (code, {})

    play(scenario)


def test_a_patch_of_a_type_that_is_none_is_refused_before_its_object_is_looked_for(play: Play) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.json("PATCH", f"{MAPS}/nope", {}, content_type="application/json")
        assert (refused["code"], refused["message"]) == (415, "415: Unsupported Media Type")

    play(scenario)


@pytest.mark.parametrize("accept", ["text/plain", "application/*", "text/*;q=0.5"])
def test_accepted_types_are_compared_literally(play: Play, accept: str) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.json("GET", f"{MAPS}/nope", accept=accept)
        assert refused["message"] == (
            "406: Not Acceptable\n\nAvailable representations: "
            "application/json, application/yaml, application/vnd.kubernetes.protobuf"
        )

    play(scenario)


def test_a_form_that_no_object_has_is_refused_before_the_object_is_looked_for(play: Play) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.json("GET", f"{MAPS}/nope", accept="application/json;as=Nope;v=v1;g=meta.k8s.io")
        assert refused["code"] == 406
        assert "details" not in refused

    play(scenario)


def test_a_refusal_comes_in_yaml_to_who_wants_yaml(play: Play) -> None:
    async def scenario(world: Any) -> None:
        answer = await world.http("GET", f"{MAPS}/nope", accept="application/yaml")
        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/yaml")
        assert b"reason: NotFound" in answer.body

    play(scenario)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "unexpected end of JSON input (<empty>)"),
        (b"xx", "invalid character 'x' looking for beginning of value (7878)"),
        (b"{", "unexpected end of JSON input ({)"),
    ],
)
def test_a_body_that_cannot_be_read_is_shown_by_its_first_bytes(play: Play, body: bytes, text: str) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.json("POST", MAPS, body)
        prefix = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; "
        assert refused["message"] == f"{prefix}json parse error: {text}"

    play(scenario)


def test_a_body_that_says_null_is_an_empty_object(play: Play) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.json("POST", MAPS, b"null")
        assert refused["message"].endswith("metadata.name: Required value: name or generateName is required")

    play(scenario)


def test_a_field_manager_is_of_printable_characters(play: Play) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.json("POST", f"{MAPS}?fieldManager=a%01", {"metadata": {"name": "a"}})
        assert refused["message"].endswith(r'Invalid value: "a\x01": invalid character U+0001 (at position 1)')

    play(scenario)
