"""The smaller plugins on a running API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiphys.base.identity import User
from webhook_world import World, config_map, run


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "nginx"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def enabled(*names: str) -> frozenset[str]:
    return frozenset(names)


async def node(world: World, labels: dict[str, str], **status: Any) -> None:
    obj = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels}, "status": status}
    made = await world.json("POST", "/api/v1/nodes", obj)
    assert made["kind"] == "Node"


def test_pods_get_the_topology_of_their_node_when_they_are_bound() -> None:
    async def scenario(world: World) -> None:
        await node(world, {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "x"})
        await world.create("pods", pod())
        target = {"apiVersion": "v1", "kind": "Node", "name": "n"}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}
        await world.create("pods/p/binding", binding)
        bound = await world.json("GET", "/api/v1/namespaces/default/pods/p")
        assert bound["metadata"]["labels"] == {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r"}

    run(scenario)


def test_a_pod_is_not_resized_beyond_its_node() -> None:
    async def scenario(world: World) -> None:
        await node(world, {}, allocatable={"cpu": "2", "memory": "1Gi"})
        obj = pod(nodeName="n")
        obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
        await world.create("pods", obj)
        change: Any = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}}
        url, strategic = "/api/v1/namespaces/default/pods/p/resize", "application/strategic-merge-patch+json"
        answer = await world.json("PATCH", url, change, content_type=strategic)
        text = "node didn't have enough allocatable resources: cpu, requested: 3000, allocatable: 2000"
        assert answer["message"] == f'pods "p" is forbidden: {text}'
        assert answer["details"]["causes"] == [{"reason": "NodeCapacity"}]
        change["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2"
        assert (await world.json("PATCH", url, change, content_type=strategic))["kind"] == "Pod"

    run(scenario)


def test_images_are_always_pulled_if_wanted() -> None:
    async def scenario(world: World) -> None:
        made = await world.create("pods", pod(initContainers=[{"name": "i", "image": "a:1"}]))
        every = made["spec"]["containers"] + made["spec"]["initContainers"]
        assert {container["imagePullPolicy"] for container in every} == {"Always"}

    run(scenario, enabled_admission=enabled("AlwaysPullImages"))


def test_namespaces_can_make_themselves() -> None:
    async def scenario(world: World) -> None:
        made = await world.json("POST", "/api/v1/namespaces/fresh/configmaps", config_map())
        assert made["metadata"]["namespace"] == "fresh"
        assert (await world.json("GET", "/api/v1/namespaces/fresh"))["status"]["phase"] == "Active"

    run(scenario, enabled_admission=enabled("NamespaceAutoProvision"))


def test_node_selectors_of_namespaces() -> None:
    async def scenario(world: World) -> None:
        notes = {"annotations": {"scheduler.alpha.kubernetes.io/node-selector": "tier=gold"}}
        merge: dict[str, Any] = {"content_type": "application/merge-patch+json"}
        await world.json("PATCH", "/api/v1/namespaces/default", {"metadata": notes}, **merge)
        assert (await world.create("pods", pod()))["spec"]["nodeSelector"] == {"tier": "gold"}
        refused = await world.create("pods", pod("q", nodeSelector={"tier": "tin"}))
        text = "pod node label selector conflicts with its namespace node label selector"
        assert refused["message"] == f'pods "q" is forbidden: {text}'

    run(scenario, enabled_admission=enabled("PodNodeSelector"))


def test_pods_tolerate_what_they_ask_for() -> None:
    async def scenario(world: World) -> None:
        obj = pod()
        obj["spec"]["containers"][0]["resources"] = {"limits": {"example.com/gpu": "1"}}
        made = await world.create("pods", obj)
        assert {"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in made["spec"]["tolerations"]

    run(scenario, enabled_admission=enabled("ExtendedResourceToleration"))


def test_hard_anti_affinity_stays_on_its_node() -> None:
    async def scenario(world: World) -> None:
        term = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "zone"}
        affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
        answer = await world.create("pods", pod(affinity=affinity))
        assert "has TopologyKey zone but only key kubernetes.io/hostname is allowed" in answer["message"]

    run(scenario, enabled_admission=enabled("LimitPodHardAntiAffinityTopology"))


def test_too_many_events_are_put_off() -> None:
    async def scenario(world: World) -> None:
        codes = []
        for number in range(4):
            about = {"kind": "Pod", "namespace": "default", "name": "p"}
            event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": f"e{number}"}, "involvedObject": about}
            codes.append((await world.http("POST", "/api/v1/namespaces/default/events", event)).status)
        assert codes == [201, 201, 429, 429]

    limits = {"limits": [{"type": "Namespace", "qps": 1, "burst": 2}]}
    run(scenario, enabled_admission=enabled("EventRateLimit"), admission={"EventRateLimit": limits})


def test_external_addresses_can_be_forbidden() -> None:
    async def scenario(world: World) -> None:
        spec = {"ports": [{"port": 80}], "externalIPs": ["10.1.1.1"]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}
        answer = await world.create("services", service)
        assert answer["message"] == 'services "s" is forbidden: Use of external IPs is denied by admission control'

    run(scenario, enabled_admission=enabled("DenyServiceExternalIPs"))


def test_a_plugin_can_be_left_out() -> None:
    async def scenario(world: World) -> None:
        made = await world.create("pods", pod())
        assert "tolerations" not in made["spec"]

    run(scenario, disabled_admission=enabled("DefaultTolerationSeconds"))


def test_tolerations_of_namespaces() -> None:
    async def scenario(world: World) -> None:
        allowed = '[{"key":"gpu","operator":"Exists"},{"key":"node.kubernetes.io/not-ready","operator":"Exists"},'
        allowed += '{"key":"node.kubernetes.io/unreachable","operator":"Exists"}]'
        notes = {
            "scheduler.alpha.kubernetes.io/defaultTolerations": '[{"key":"gpu","operator":"Exists"}]',
            "scheduler.alpha.kubernetes.io/tolerationsWhitelist": allowed,
        }
        merge: dict[str, Any] = {"content_type": "application/merge-patch+json"}
        await world.json("PATCH", "/api/v1/namespaces/default", {"metadata": {"annotations": notes}}, **merge)
        made = await world.create("pods", pod(tolerations=[{"key": "gpu", "operator": "Equal", "value": "a"}]))
        assert [one["key"] for one in made["spec"]["tolerations"]][-1] == "gpu"
        refused = await world.create("pods", pod("q", tolerations=[{"key": "other", "operator": "Exists"}]))
        assert refused["message"].endswith("conflict with its namespace whitelist")

    run(scenario, enabled_admission=enabled("PodTolerationRestriction"))


def test_owners_are_only_given_by_who_may_delete() -> None:
    async def scenario(world: World) -> None:
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update", "get"]}]
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": rules}
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        await world.json("POST", f"{rbac}/roles", role)
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}
        binding = {"kind": "RoleBinding", "metadata": {"name": "b"}, "roleRef": reference, "subjects": [subject]}
        await world.json("POST", f"{rbac}/rolebindings", {"apiVersion": "rbac.authorization.k8s.io/v1", **binding})
        joe = User("joe", groups=("system:authenticated",))
        maps = "/api/v1/namespaces/default/configmaps"
        assert (await world.json("POST", maps, config_map(), user=joe))["kind"] == "ConfigMap"
        owner: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
        owned = {**config_map(), "metadata": {"name": "one", "ownerReferences": [owner]}}
        answer = await world.json("PUT", f"{maps}/one", owned, user=joe)
        assert "cannot set an ownerRef on a resource you can't delete" in answer["message"]
        owned["metadata"] = {"name": "two", "ownerReferences": [{**owner, "blockOwnerDeletion": True}]}
        answer = await world.json("POST", maps, owned, user=joe)
        assert "refers to a resource you can't set finalizers on" in answer["message"]

    run(scenario, enabled_admission=enabled("OwnerReferencesPermissionEnforcement"))


def test_another_server_may_judge_images(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"

    async def scenario(world: World) -> None:
        # The plugin reads its kubeconfig when the server is made, so this server's port is not known to it.
        answer = await world.create("pods", pod())
        assert answer["code"] == 403
        assert "connect" in answer["message"].lower() or "refused" in answer["message"].lower()

    kubeconfig.write_text(
        '{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1/x"}}],'
        '"users":[{"name":"u","user":{}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],'
        '"current-context":"x"}'
    )
    policy = {"imagePolicy": {"kubeConfigFile": str(kubeconfig), "retryBackoff": 1}}
    run(scenario, enabled_admission=enabled("ImagePolicyWebhook"), admission={"ImagePolicyWebhook": policy})


def test_of_several_default_ingress_classes_one_is_taken() -> None:
    async def scenario(world: World) -> None:
        group = "networking.k8s.io/v1"
        notes = {"ingressclass.kubernetes.io/is-default-class": "true"}
        for name in ("b", "a"):
            metadata = {"name": name, "annotations": notes}
            obj = {"apiVersion": group, "kind": "IngressClass", "metadata": metadata, "spec": {"controller": "x.y/z"}}
            await world.json("POST", f"/apis/{group}/ingressclasses", obj)
        backend = {"service": {"name": "s", "port": {"number": 80}}}
        ingress = {
            "apiVersion": group,
            "kind": "Ingress",
            "metadata": {"name": "i"},
            "spec": {"defaultBackend": backend},
        }
        made = await world.json("POST", f"/apis/{group}/namespaces/default/ingresses", ingress)
        assert made["spec"]["ingressClassName"] in ("a", "b")

    run(scenario)
