"""What is served besides objects: discovery, health, version, reviews; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tiphys.base.identity import User

Play = Callable[..., None]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
BOB = User("bob", groups=("system:authenticated",))


def test_discovery_is_served_plain_and_aggregated(play: Play) -> None:
    async def scenario(world: Any) -> None:
        names = {entry["name"] for entry in (await world.json("GET", "/api/v1"))["resources"]}
        assert {"pods", "pods/log", "namespaces/finalize"} <= names
        answer = await world.http("GET", "/apis", accept=f"{AGGREGATED},application/json")
        assert orjson.loads(answer.body)["kind"] == "APIGroupDiscoveryList"
        same = await world.http("GET", "/apis", accept=AGGREGATED, if_none_match=answer.headers["ETag"])
        assert (same.status, same.body) == (304, b"")

    play(scenario)


def test_health_endpoints_tell_each_check(play: Play) -> None:
    async def scenario(world: Any) -> None:
        assert (await world.http("GET", "/livez", user=None)).body == b"ok"
        verbose = (await world.http("GET", "/readyz?verbose")).body.decode()
        assert "[+]etcd ok" in verbose
        assert verbose.endswith("readyz check passed\n")
        assert (await world.http("GET", "/readyz/ping")).body == b"ok"
        assert (await world.http("GET", "/readyz/nothing")).status == 404

    play(scenario)


def test_a_store_that_fails_makes_the_server_unready(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.store.close()
        answer = await world.json(
            "POST", "/api/v1/namespaces/default/configmaps", {"kind": "ConfigMap", "metadata": {"name": "x"}}
        )
        assert (answer["code"], answer["reason"]) == (503, "ServiceUnavailable")

    play(scenario)


def test_unknown_paths_and_verbs_are_told_apart(play: Play) -> None:
    async def scenario(world: Any) -> None:
        assert (await world.http("GET", "/apis/nothing/v1/things")).status == 404
        assert (await world.http("GET", "/api/v1/things")).status == 404
        assert (await world.http("POST", "/api/v1/pods", {})).status == 405
        assert (await world.http("DELETE", "/api/v1/namespaces")).status == 405
        assert (await world.http("GET", "/api/v1/pods")).status == 200

    play(scenario)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/things",
        "/api/v1/pods/a",
        "/api/v1/pods/a/log",
        "/api/v1/namespaces/default/nodes/a",
        "/api/v1/namespaces/default/pods/a/nothing",
        "/apis/apps/v1/deployments/a",
    ],
)
def test_paths_below_a_served_version_are_refused_with_a_status(play: Play, path: str) -> None:
    async def scenario(world: Any) -> None:
        answer = await world.json("GET", path)
        assert (answer["code"], answer["reason"]) == (404, "NotFound")
        assert answer["message"] == "the server could not find the requested resource"

    play(scenario)


def test_swagger_is_served_in_protobuf_too(play: Play) -> None:
    async def scenario(world: Any) -> None:
        old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
        answer = await world.http("GET", "/openapi/v2", accept=old)
        assert answer.headers["Content-Type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
        assert answer.body.startswith(b"\x0a\x032.0")
        assert (await world.json("GET", "/openapi/v2", accept="image/png, */*"))["swagger"] == "2.0"
        assert (await world.http("GET", "/openapi/v2", accept="image/png")).status == 406

    play(scenario)


def test_those_without_rights_are_refused_and_impersonation_is_a_right(play: Play) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.json("GET", "/api/v1/pods", user=BOB)
        assert refused["message"] == (
            'pods is forbidden: User "bob" cannot list resource "pods" in API group "" at the cluster scope'
        )
        as_bob = await world.json("GET", "/api/v1/pods", impersonate_user="bob")
        assert as_bob["message"] == refused["message"]
        not_his = await world.json("GET", "/api/v1/pods", user=BOB, impersonate_user="admin")
        assert 'cannot impersonate-on:user-info:list resource "pods"' in not_his["message"]

    play(scenario)


def test_credentials_that_are_not_good_are_no_anonymous_request(play: Play) -> None:
    async def scenario(world: Any) -> None:
        answer = await world.http("GET", "/version", user=None, authorization="Bearer nonsense")
        assert answer.status == 401

    play(scenario)


def test_the_defaults_of_a_cluster_are_there_from_the_start(play: Play) -> None:
    async def scenario(world: Any) -> None:
        service = await world.json("GET", "/api/v1/namespaces/default/services/kubernetes")
        assert service["spec"]["clusterIP"] == "10.96.0.1"
        roles = await world.json("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles")
        assert {"admin", "edit", "view", "system:node"} <= {role["metadata"]["name"] for role in roles["items"]}

    play(scenario)


def test_metrics_count_requests_by_resource_and_code(play: Play) -> None:
    async def scenario(world: Any) -> None:
        answer = await world.http("GET", "/api/v1/pods", user=BOB)
        assert answer.status == 403
        page = (await world.http("GET", "/metrics")).body.decode()
        labels = 'verb="LIST",dry_run="",group="",version="v1",resource="pods",subresource="",scope="cluster"'
        assert f'apiserver_request_total{{{labels},component="apiserver",code="403"}} 1' in page
        assert f'apiserver_request_duration_seconds_count{{{labels},component="apiserver"}} 1' in page
        assert 'apiserver_storage_objects{resource="clusterroles.rbac.authorization.k8s.io"}' in page

    play(scenario)


def test_logs_of_a_pod_on_no_node_are_empty_and_exec_is_refused(play: Play) -> None:
    async def scenario(world: Any) -> None:
        spec = {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
        await world.http("POST", "/api/v1/namespaces/default/pods", body)
        path = "/api/v1/namespaces/default/pods/p"
        which = await world.json("GET", f"{path}/log")
        assert which["message"] == "a container name must be specified for pod p, choose one of: [a b]"
        log = await world.http("GET", f"{path}/log?container=a")
        assert (log.status, log.body) == (200, b"")
        refused = await world.json("POST", f"{path}/exec?container=a&stdout=1&command=ls")
        assert refused["message"] == "pod p does not have a host assigned"

    play(scenario)


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("/version", "application/json"),
        ("/.well-known/openid-configuration", "application/json"),
        ("/openid/v1/jwks", "application/jwk-set+json"),
    ],
)
def test_documents_of_one_form_are_sent_to_who_accepts_it_or_anything(play: Play, path: str, media: str) -> None:
    async def scenario(world: Any) -> None:
        for accept in (media, "*/*", "text/html, */*;q=0.1"):
            answer = await world.http("GET", path, accept=accept)
            assert (answer.status, answer.headers["Content-Type"]) == (200, media)
        refused = await world.json("GET", path, accept="text/html")
        assert refused["message"] == f"406: Not Acceptable\n\nAvailable representations: {media}"

    play(scenario)


def test_a_review_is_no_table(play: Play) -> None:
    async def scenario(world: Any) -> None:
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        table = "application/json;as=Table;v=v1;g=meta.k8s.io"
        refused = await world.json("POST", path, review, accept=table)
        assert (refused["code"], refused["reason"]) == (406, "NotAcceptable")
        assert (await world.json("POST", path, review, accept=f"{table},application/json"))["status"]["allowed"]

    play(scenario)


def test_component_statuses_are_shown_as_a_table(play: Play) -> None:
    async def scenario(world: Any) -> None:
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        table = await world.json("GET", "/api/v1/componentstatuses", accept=accept)
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Status", "Message", "Error"]
        (row,) = table["rows"]
        assert (row["cells"], row["object"]["kind"]) == (["etcd-0", "Healthy", "ok", ""], "PartialObjectMetadata")
        assert (await world.json("GET", "/api/v1/componentstatuses/nothing"))["code"] == 404

    play(scenario)


def test_checks_are_counted_and_their_last_results_shown(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("GET", "/readyz")
        await world.http("GET", "/livez/etcd")
        page = (await world.http("GET", "/metrics/slis")).body.decode()
        assert 'kubernetes_healthcheck{name="etcd",type="livez"} 1\n' in page
        assert 'kubernetes_healthchecks_total{name="etcd",status="success",type="readyz"} 1\n' in page
        assert "# TYPE kubernetes_healthchecks_total counter\n" in page
        world.server.lifecycle.stopping = True
        await world.http("GET", "/readyz")
        page = (await world.http("GET", "/metrics/slis")).body.decode()
        assert 'kubernetes_healthcheck{name="shutdown",type="readyz"} 0\n' in page
        assert 'kubernetes_healthchecks_total{name="shutdown",status="error",type="readyz"} 1\n' in page

    play(scenario)


def test_the_root_lists_every_path_and_no_former_version(play: Play) -> None:
    async def scenario(world: Any) -> None:
        paths = (await world.json("GET", "/"))["paths"]
        assert {"/apis/apps/v1", "/healthz/ping", "/livez/autoregister-completion", "/metrics/slis"} <= set(paths)
        assert "/apis/extensions" not in paths
        assert paths == sorted(paths)

    play(scenario)


def test_readiness_names_its_checks_and_ends_with_the_shutdown(play: Play) -> None:
    async def scenario(world: Any) -> None:
        page = (await world.http("GET", "/readyz?verbose")).body.decode().splitlines()
        assert page[0] == "[+]ping ok"
        assert "[+]poststarthook/rbac/bootstrap-roles ok" in page
        assert page[-2:] == ["[+]shutdown ok", "readyz check passed"]
        world.server.lifecycle.stopping = True
        stopping = await world.http("GET", "/readyz")
        assert (stopping.status, b"[-]shutdown failed: reason withheld" in stopping.body) == (500, True)
        assert (await world.http("GET", "/livez")).status == 200

    play(scenario)
