"""Tokens in Secrets, ReplicationControllers and resource quotas on the real API server, on virtual time."""

from __future__ import annotations

import base64
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.tokens import TokenIssuer, new_key
from tiphys.base.errors import ApiError, Forbidden
from tiphys.client.resources import (
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    REPLICATION_CONTROLLERS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
TOKEN_TYPE = "kubernetes.io/service-account-token"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, **options) as cluster:
            await cluster.wait(SERVICE_ACCOUNTS, NS, "default", timeout=10)
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def play_with_tokens(scenario: Callable[[Cluster, TokenIssuer], Coroutine[Any, Any, None]]) -> None:
    key = new_key()
    issuer = TokenIssuer(key)
    settings = {"root-ca": "test certificate", "service-account-token": issuer.issue_legacy}
    play(lambda cluster: scenario(cluster, issuer), settings=settings, config=ApiServerConfig(service_account_key=key))


def account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NS}}


def secret(name: str, account_name: str) -> dict[str, Any]:
    notes = {"kubernetes.io/service-account.name": account_name}
    meta = {"name": name, "namespace": NS, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Secret", "type": TOKEN_TYPE, "metadata": meta}


def text(held: Object, key: str) -> str:
    return base64.b64decode(held["data"][key]).decode()


def test_a_secret_for_an_account_gets_a_token_the_certificate_and_the_namespace() -> None:
    async def scenario(cluster: Cluster, issuer: TokenIssuer) -> None:
        made = await cluster.client.create(SERVICE_ACCOUNTS, account("robot"))
        await cluster.client.create(SECRETS, secret("robot-token", "robot"))
        held = await cluster.wait(SECRETS, NS, "robot-token", lambda each: "token" in (each.get("data") or {}), 10)
        assert text(held, "ca.crt") == "test certificate"
        assert text(held, "namespace") == NS
        assert held["metadata"]["annotations"]["kubernetes.io/service-account.uid"] == made["metadata"]["uid"]
        claims = issuer.verify(text(held, "token"))
        assert claims["sub"] == "system:serviceaccount:default:robot"
        assert "exp" not in claims

    play_with_tokens(scenario)


def test_a_token_that_is_taken_out_of_its_secret_is_made_anew() -> None:
    async def scenario(cluster: Cluster, issuer: TokenIssuer) -> None:
        await cluster.client.create(SECRETS, secret("t", "default"))
        await cluster.wait(SECRETS, NS, "t", lambda each: "token" in (each.get("data") or {}), 10)
        await cluster.client.patch(SECRETS, "t", {"data": {"token": None, "ca.crt": "eA=="}}, NS, type=MERGE_PATCH)
        held = await cluster.wait(SECRETS, NS, "t", lambda each: "token" in (each.get("data") or {}), 10)
        assert text(held, "ca.crt") == "test certificate"

    play_with_tokens(scenario)


def test_secrets_go_with_their_account_and_without_one() -> None:
    async def scenario(cluster: Cluster, issuer: TokenIssuer) -> None:
        await cluster.client.create(SERVICE_ACCOUNTS, account("robot"))
        await cluster.client.create(SECRETS, secret("robot-token", "robot"))
        await cluster.wait(SECRETS, NS, "robot-token", lambda each: "token" in (each.get("data") or {}), 10)
        await cluster.client.delete(SERVICE_ACCOUNTS, "robot", NS)
        await cluster.wait_gone(SECRETS, NS, "robot-token", 10)
        await cluster.client.create(SECRETS, secret("stray", "nobody"))
        await cluster.wait_gone(SECRETS, NS, "stray", 10)

    play_with_tokens(scenario)


def test_an_account_forgets_a_secret_that_is_deleted() -> None:
    async def scenario(cluster: Cluster, issuer: TokenIssuer) -> None:
        await cluster.client.create(SERVICE_ACCOUNTS, {**account("robot"), "secrets": [{"name": "t"}, {"name": "u"}]})
        await cluster.client.create(SECRETS, secret("t", "robot"))
        await cluster.wait(SECRETS, NS, "t", lambda each: "token" in (each.get("data") or {}), 10)
        await cluster.client.delete(SECRETS, "t", NS)
        await cluster.wait(SERVICE_ACCOUNTS, NS, "robot", lambda each: each.get("secrets") == [{"name": "u"}], 10)

    play_with_tokens(scenario)


def test_a_pod_in_a_new_namespace_waits_for_the_account_and_no_longer() -> None:
    async def scenario(cluster: Cluster) -> None:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}
        await cluster.client.create(NAMESPACES, space)
        begun = cluster.clock.monotonic()
        one = pod("one")
        await cluster.client.create(PODS, {**one, "metadata": {**one["metadata"], "namespace": "new"}})
        assert cluster.clock.monotonic() - begun < 0.05

    play(scenario)


def test_a_pod_is_refused_when_the_account_does_not_come() -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, controllers="") as cluster:
            begun = clock.monotonic()
            with pytest.raises(
                Forbidden, match='error looking up service account default/default: serviceaccount "default"'
            ):
                await cluster.client.create(PODS, pod("one"))
            assert clock.monotonic() - begun == pytest.approx(1.0)

    clock.run(main())
    clock.close()


def replication_controller(replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    spec = {"replicas": replicas, "selector": {"app": "web"}, "template": template}
    meta = {"name": "web", "namespace": NS}
    return {"apiVersion": "v1", "kind": "ReplicationController", "metadata": meta, "spec": spec}


def ready(count: int) -> Callable[[Object], bool]:
    def holds(each: Object) -> bool:
        status = each.get("status") or {}
        return status.get("replicas") == count and (status.get("readyReplicas") or 0) == count

    return holds


def test_a_replication_controller_keeps_its_number_of_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(REPLICATION_CONTROLLERS, replication_controller(3))
        await cluster.wait(REPLICATION_CONTROLLERS, NS, "web", ready(3), 30)
        pods = (await cluster.client.list(PODS, NS, labels="app=web")).items
        assert {pod["metadata"]["ownerReferences"][0]["kind"] for pod in pods} == {"ReplicationController"}
        await cluster.client.delete(PODS, pods[0]["metadata"]["name"], NS)
        await cluster.wait_gone(PODS, NS, pods[0]["metadata"]["name"], 60)
        await cluster.wait(REPLICATION_CONTROLLERS, NS, "web", ready(3), 30)
        await cluster.client.patch(REPLICATION_CONTROLLERS, "web", {"spec": {"replicas": 1}}, NS, type=MERGE_PATCH)
        held = await cluster.wait(REPLICATION_CONTROLLERS, NS, "web", ready(1), 60)
        assert "terminatingReplicas" not in held["status"]

    play(scenario)


def test_a_replication_controller_adopts_and_releases() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("stray", labels={"app": "web"}))
        await cluster.client.create(REPLICATION_CONTROLLERS, replication_controller(1))

        def adopted(each: Object) -> bool:
            return bool(each["metadata"].get("ownerReferences"))

        await cluster.wait(PODS, NS, "stray", adopted, 10)
        await cluster.client.patch(PODS, "stray", {"metadata": {"labels": {"app": None}}}, NS, type=MERGE_PATCH)
        await cluster.wait(PODS, NS, "stray", lambda each: not adopted(each), 10)
        await cluster.clock.sleep(5)
        assert len((await cluster.client.list(PODS, NS, labels="app=web")).items) == 1

    play(scenario)


def pod(name: str, labels: dict[str, str] | None = None, cpu: str = "100m") -> dict[str, Any]:
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": cpu}}}
    meta = {"name": name, "namespace": NS, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


def service(name: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": NS}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}


async def set_quota(cluster: Cluster, hard: dict[str, str], **spec: Any) -> None:
    meta = {"name": "q", "namespace": NS}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard, **spec}}
    await cluster.client.create(RESOURCE_QUOTAS, quota)
    await cluster.wait(RESOURCE_QUOTAS, NS, "q", lambda each: (each.get("status") or {}).get("hard") == hard, 10)


def uses(**wanted: str) -> Callable[[Object], bool]:
    return lambda quota: wanted.items() <= quota["status"]["used"].items()


async def used(cluster: Cluster, **wanted: str) -> None:
    await cluster.wait(RESOURCE_QUOTAS, NS, "q", uses(**wanted), 10)


def test_a_quota_is_charged_at_once_and_refuses_what_is_too_much() -> None:
    async def scenario(cluster: Cluster) -> None:
        await set_quota(cluster, {"pods": "2", "requests.cpu": "250m"})
        await cluster.client.create(PODS, pod("one"))
        quota = await cluster.client.get(RESOURCE_QUOTAS, "q", NS)
        assert quota["status"]["used"] == {"pods": "1", "requests.cpu": "100m"}
        with pytest.raises(Forbidden) as refused:
            await cluster.client.create(PODS, pod("big", cpu="200m"))
        assert str(refused.value) == (
            'pods "big" is forbidden: exceeded quota: q, requested: requests.cpu=200m, used: requests.cpu=100m, '
            "limited: requests.cpu=250m"
        )
        await cluster.client.create(PODS, pod("two"))
        with pytest.raises(Forbidden):
            await cluster.client.create(PODS, pod("three", cpu="10m"))

    play(scenario)


def test_what_goes_or_ends_is_given_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await set_quota(cluster, {"pods": "2", "services": "2", "configmaps": "10", "count/deployments.apps": "1"})
        await used(cluster, pods="0", services="1", configmaps="1")
        await cluster.client.create(PODS, pod("one"))
        held = await cluster.client.create(PODS, pod("two"))
        held = await cluster.wait(PODS, NS, "two", lambda each: (each["status"] or {}).get("phase") == "Running", 10)
        await cluster.nodes.finish(held)
        await used(cluster, pods="1")
        await cluster.client.delete(PODS, "one", NS)
        await used(cluster, pods="0")
        await cluster.client.create(SERVICES, service("s"))  # besides the one named kubernetes
        with pytest.raises(Forbidden):
            await cluster.client.create(SERVICES, service("t"))
        await cluster.client.delete(SERVICES, "s", NS)
        await used(cluster, services="1")
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": NS}}
        await cluster.client.create(CONFIG_MAPS, config)
        await cluster.client.delete(CONFIG_MAPS, "c", NS)
        await used(cluster, configmaps="1")

    play(scenario)


def test_a_charge_for_a_write_that_failed_is_given_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("one"))
        await set_quota(cluster, {"pods": "5"})
        await used(cluster, pods="1")
        with pytest.raises(ApiError):
            await cluster.client.create(PODS, pod("one"))
        await cluster.clock.sleep(301)
        await used(cluster, pods="1")

    play(scenario)


def test_a_quota_with_scopes_counts_only_those_pods() -> None:
    async def scenario(cluster: Cluster) -> None:
        await set_quota(cluster, {"pods": "5"}, scopes=["Terminating"])
        await cluster.client.create(PODS, pod("forever"))
        limited = pod("limited")
        limited["spec"]["activeDeadlineSeconds"] = 60
        await cluster.client.create(PODS, limited)
        await used(cluster, pods="1")

    play(scenario)


def test_a_quota_that_changes_is_counted_anew() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, pod("one"))
        await set_quota(cluster, {"pods": "5"})
        await cluster.client.patch(RESOURCE_QUOTAS, "q", {"spec": {"hard": {"secrets": "5"}}}, NS, type=MERGE_PATCH)
        held = await cluster.wait(RESOURCE_QUOTAS, NS, "q", lambda each: len(each["status"]["used"]) == 2, 10)
        assert held["status"]["used"] == {"pods": "1", "secrets": "0"}

    play(scenario)
