"""PodSecurity on a running API server: labels of namespaces, pods, templates, warnings, exemptions."""

from __future__ import annotations

from typing import Any

from webhook_world import World, run

PREFIX = "pod-security.kubernetes.io/"


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "nginx"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}


async def label(world: World, **labels: str | None) -> Any:
    """Change the labels of the namespace default: enforce, enforce_version, audit, warn ..."""
    change = {PREFIX + key.replace("_", "-"): value for key, value in labels.items()}
    body = {"metadata": {"labels": change}}
    return await world.http("PATCH", "/api/v1/namespaces/default", body, content_type="application/merge-patch+json")


def test_pods_that_do_too_much_are_refused_and_others_let_in() -> None:
    async def scenario(world: World) -> None:
        assert (await world.create("pods", pod("before", hostNetwork=True)))["kind"] == "Pod"
        answer = await label(world, enforce="baseline")
        assert answer.headers["Warning"] == (
            '299 - "existing pods in namespace \\"default\\" violate the new PodSecurity enforce level '
            '\\"baseline:latest\\"", 299 - "before: host namespaces"'
        )
        refused = await world.create("pods", pod(hostNetwork=True))
        assert (refused["code"], refused["reason"]) == (403, "Forbidden")
        assert refused["message"] == (
            'pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
        )
        assert (await world.create("pods", pod()))["kind"] == "Pod"

    run(scenario)


def test_templates_are_only_warned_of() -> None:
    async def scenario(world: World) -> None:
        await label(world, enforce="baseline")
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": pod(hostPID=True)["spec"]}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
        answer = await world.http("POST", "/apis/apps/v1/namespaces/default/deployments", deployment)
        assert answer.status == 201
        text = 'would violate PodSecurity \\"baseline:latest\\": host namespaces (hostPID=true)'
        assert answer.headers["Warning"] == f'299 - "{text}"'

    run(scenario)


def test_labels_that_make_no_sense_are_refused() -> None:
    async def scenario(world: World) -> None:
        answer = await label(world, enforce="baselin")
        assert answer.status == 422
        assert b"must be one of privileged, baseline, restricted" in answer.body

    run(scenario)


def test_updates_count_when_they_change_what_runs() -> None:
    async def scenario(world: World) -> None:
        await world.create("pods", pod(hostNetwork=True))
        await label(world, enforce="baseline")
        url, merge = "/api/v1/namespaces/default/pods/p", "application/merge-patch+json"
        labelled = await world.http("PATCH", url, {"metadata": {"labels": {"a": "b"}}}, content_type=merge)
        assert labelled.status == 200
        strategic = "application/strategic-merge-patch+json"
        image = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
        assert (await world.http("PATCH", url, image, content_type=strategic)).status == 403

    run(scenario)


def test_defaults_and_exemptions_come_from_the_configuration() -> None:
    configuration = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": "baseline"},
        "exemptions": {"namespaces": ["kube-system"]},
    }

    async def scenario(world: World) -> None:
        assert (await world.create("pods", pod(hostNetwork=True)))["code"] == 403
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await world.json("POST", "/api/v1/namespaces/kube-system/serviceaccounts", account)
        made = await world.json("POST", "/api/v1/namespaces/kube-system/pods", pod(hostNetwork=True))
        assert made["kind"] == "Pod"

    run(scenario, admission={"PodSecurity": configuration})
