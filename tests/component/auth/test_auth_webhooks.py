"""Services that are asked who somebody is, and what they may do."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import yaml

from tiphys.base.http.types import Request, Response


def known(request: Request) -> Any:
    review = orjson.loads(request.body)
    if review["spec"]["token"] != "theirs":
        return {**review, "status": {"authenticated": False, "error": "never heard of it"}}
    user = {"username": "ann", "uid": "9", "groups": ["g"], "extra": {"k": ["v"]}}
    return {**review, "status": {"authenticated": True, "user": user, "audiences": review["spec"]["audiences"]}}


def test_a_service_knows_tokens_and_is_asked_once(start: Any, remote: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with remote(known) as service:
            config = service.kubeconfig(tmp_path / "tokens.conf")
            flags = (
                f"--authentication-token-webhook-config-file={config}",
                "--authentication-token-webhook-version=v1",
            )
            async with start(*flags) as server:
                for _ in range(2):
                    found = await server.user(token="theirs")
                    assert (found["username"], found["groups"]) == ("ann", ["g", "system:authenticated"])
                assert len(service.asked) == 1
                assert service.asked[0].headers["authorization"] == "Bearer mine"
                assert (await server.user(token="unknown"))["code"] == 401
                assert (await server.user(token="plain"))["username"] == "bob"

    asyncio.run(main())


def decide(request: Request) -> Any:
    spec = orjson.loads(request.body)["spec"]
    if "nonResourceAttributes" in spec:
        return {"status": {"allowed": True, "reason": "paths are free"}}
    verb = spec["resourceAttributes"]["verb"]
    if verb == "delete":
        return {"status": {"allowed": False, "denied": True, "reason": "never"}}
    return {"status": {"allowed": spec["resourceAttributes"].get("namespace") == "free"}}


def settings(tmp_path: Any, kubeconfig: Any, **more: Any) -> str:
    webhook = {
        "authorizedTTL": "5m",
        "unauthorizedTTL": "30s",
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(kubeconfig)},
        "matchConditions": [{"expression": "request.user == 'bob'"}],
        **more,
    }
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": [{"type": "Webhook", "name": "policy", "webhook": webhook}, {"type": "RBAC", "name": "rbac"}],
    }
    path = tmp_path / "authorization.yaml"
    path.write_text(yaml.safe_dump(document))
    return f"--authorization-config={path}"


def test_a_service_allows_denies_or_leaves_it_to_others(start: Any, remote: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with remote(decide) as service:
            config = service.kubeconfig(tmp_path / "access.conf")
            async with start(settings(tmp_path, config)) as server:
                assert (await server.ask("/api/v1/namespaces/free/pods", token="plain")).status == 200
                assert (await server.ask("/api/v1/namespaces/other/pods", token="plain")).status == 403
                denied = await server.ask("/api/v1/namespaces/free/pods/x", method="DELETE", token="plain")
                assert denied.status == 403
                assert orjson.loads(denied.body)["message"].endswith(": never")
                before = len(service.asked)
                await server.ask("/api/v1/namespaces/free/pods", token="plain")
                await server.ask("/api/v1/namespaces/free/pods", token="secret")
                assert len(service.asked) == before, "answers are kept; conditions keep others' requests from it"

    asyncio.run(main())


def test_a_service_that_fails_denies_or_is_skipped_as_configured(start: Any, remote: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with remote(lambda _request: Response(400)) as service:
            config = service.kubeconfig(tmp_path / "access.conf")
            async with start(settings(tmp_path, config)) as server:
                assert (await server.ask("/api/v1/pods", token="plain")).status == 500
                assert (await server.ask("/version", token="plain")).status == 500, "Deny: RBAC is not asked"
        async with remote(lambda _request: Response(400)) as service:
            config = service.kubeconfig(tmp_path / "access.conf")
            async with start(settings(tmp_path, config, failurePolicy="NoOpinion")) as server:
                assert (await server.ask("/version", token="plain")).status == 200, "RBAC allows it"

    asyncio.run(main())
