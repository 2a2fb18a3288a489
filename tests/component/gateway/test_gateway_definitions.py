"""The Gateway API's definitions: what they let in, and that others may replace them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from gateway_objects import gateway, http_route, listener
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.errors import Invalid
from tiphys.client.resources import CUSTOM_RESOURCE_DEFINITIONS
from tiphys.client.types import APPLY_PATCH, Client, Object, Resource
from tiphys.cluster import gateway_objects
from tiphys.gateway import definitions
from tiphys.gateway.resources import GATEWAYS, HTTP_ROUTES
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

ROUTES = "httproutes.gateway.networking.k8s.io"


def cluster(clock: VirtualClock) -> Cluster:
    return Cluster(clock, nodes=0, controllers="", config=ApiServerConfig(objects=gateway_objects.desired()))


async def problem(client: Client, resource: Resource, obj: Mapping[str, Any]) -> str:
    """What is wrong with it; "" when it is accepted."""
    metadata = {"name": obj["metadata"]["name"]}
    try:
        made = await client.create(resource, {**obj, "metadata": metadata}, "default")
    except Invalid as error:
        return str(error)
    await client.delete(resource, made["metadata"]["name"], "default")
    return ""


def rules(*each: Mapping[str, Any]) -> Mapping[str, Any]:
    return http_route("route", {"name": "edge"}, rules=each)


PREFIX = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}
EXACT = [{"path": {"type": "Exact", "value": "/a"}}]
CASES = [
    (HTTP_ROUTES, rules({"matches": [{"path": {"type": "PathPrefix", "value": "/a"}}]}), ""),
    (HTTP_ROUTES, rules({"matches": [{"path": {"type": "Exact", "value": "a"}}]}), "must be an absolute path"),
    (HTTP_ROUTES, rules({"matches": [{"path": {"type": "PathPrefix", "value": "/a/../b"}}]}), "must not have '/../'"),
    (HTTP_ROUTES, rules({"matches": [{"path": {"type": "PathPrefix", "value": "/a b"}}]}), "valid characters"),
    (HTTP_ROUTES, rules({"filters": [{"type": "URLRewrite"}]}), "filter.urlRewrite must be specified"),
    (
        HTTP_ROUTES,
        rules(
            {"filters": [{"type": "URLRewrite", "urlRewrite": {}}, {"type": "RequestRedirect", "requestRedirect": {}}]}
        ),
        "not both",
    ),
    (
        HTTP_ROUTES,
        rules(
            {"filters": [{"type": "RequestRedirect", "requestRedirect": {}}], "backendRefs": [{"name": "a", "port": 1}]}
        ),
        "must not be used together with backendRefs",
    ),
    (
        HTTP_ROUTES,
        rules({"matches": EXACT, "filters": [{"type": "URLRewrite", "urlRewrite": {"path": PREFIX}}]}),
        "ReplacePrefixMatch needs",
    ),
    (HTTP_ROUTES, rules({"backendRefs": [{"name": "a"}]}), "Must have port for Service reference"),
    (HTTP_ROUTES, rules({"timeouts": {"request": "1s", "backendRequest": "2s"}}), "cannot be longer"),
    (HTTP_ROUTES, rules({"timeouts": {"request": "soon"}}), "should match"),
    (GATEWAYS, gateway("edge", listener("http")), ""),
    (GATEWAYS, gateway("edge", listener("a"), listener("b")), "must be unique for each listener"),
    (
        GATEWAYS,
        gateway("edge", listener("a", 80, tls={"certificateRefs": [{"name": "x"}]})),
        "tls must not be specified",
    ),
    (GATEWAYS, gateway("edge", listener("a", 443, "HTTPS", tls={})), "certificateRefs or options must be specified"),
    (GATEWAYS, gateway("edge", listener("a", 443, "HTTPS", tls={"mode": "Passthrough"})), "must be Terminate"),
    (GATEWAYS, gateway("edge", listener("a", 0)), "greater than or equal to 1"),
    (GATEWAYS, gateway("edge"), "at least 1 item"),
]


def test_what_is_checked() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with cluster(clock) as made:
            await clock.sleep(1)
            for resource, obj, expected in CASES:
                text = await problem(made.client, resource, obj)
                assert (expected in text) if expected else not text, (obj["spec"], text)

    clock.run(scenario())


def test_defaults() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with cluster(clock) as made:
            await clock.sleep(1)
            bare = {
                "apiVersion": "gateway.networking.k8s.io/v1beta1",
                "kind": "HTTPRoute",
                "metadata": {"name": "bare"},
            }
            beta = Resource("gateway.networking.k8s.io", "v1beta1", "httproutes")
            await made.client.create(beta, {**bare, "spec": {"parentRefs": [{"name": "edge"}]}}, "default")
            spec = (await made.client.get(HTTP_ROUTES, "bare", "default"))["spec"]
            assert spec["parentRefs"] == [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}]
            assert spec["rules"] == [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]

    clock.run(scenario())


def official(have: Object) -> dict[str, Any]:
    """Another release of a definition, as its users apply it."""
    spec = copy.deepcopy(dict(have["spec"]))
    spec["names"]["shortNames"] = ["hr"]
    annotations = {definitions.BUNDLE_VERSION: "v9.0.0", definitions.APPROVED: "https://example.com/approved"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": have["metadata"]["name"], "annotations": annotations},
        "spec": spec,
    }


def test_another_release_replaces_ours_without_force_and_stays() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with cluster(clock) as made:
            await clock.sleep(1)
            have = await made.client.get(CUSTOM_RESOURCE_DEFINITIONS, ROUTES)
            patched = await made.client.patch(
                CUSTOM_RESOURCE_DEFINITIONS, ROUTES, official(have), type=APPLY_PATCH, field_manager="kubectl"
            )
            assert patched["spec"]["names"]["shortNames"] == ["hr"]
            wanted = next(one for one in definitions.all_definitions() if one["metadata"]["name"] == ROUTES)
            assert definitions.renewed(wanted, patched) is None

    clock.run(scenario())


@pytest.mark.parametrize(("made", "renewed"), [("v1.3.0/old", True), (None, False), ("", False)])
def test_ours_of_an_older_tiphys_are_renewed(made: str | None, renewed: bool) -> None:
    wanted = definitions.all_definitions()[0]
    have = copy.deepcopy(wanted)
    annotations = have["metadata"]["annotations"]
    if made is None:
        del annotations[definitions.DIGEST]
    elif made:
        annotations |= {definitions.DIGEST: made, definitions.BUNDLE_VERSION: "v1.3.0"}
    have["spec"]["names"]["shortNames"] = ["old"]
    found = definitions.renewed(wanted, have)
    assert (found is not None) is renewed
    if found is not None:
        assert found["spec"] == wanted["spec"]
        assert found["metadata"]["annotations"] == wanted["metadata"]["annotations"]
