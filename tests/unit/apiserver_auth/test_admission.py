"""What each plugin changes and what it refuses, in upstream's words."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tiphys.apiserver import admission
from tiphys.apiserver.admission.ingress_class import DefaultIngressClass
from tiphys.apiserver.admission.limit_ranger import LimitRanger
from tiphys.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from tiphys.apiserver.admission.node_restriction import NodeRestriction
from tiphys.apiserver.admission.pod_tolerations import DefaultTolerationSeconds, TaintNodesByCondition
from tiphys.apiserver.admission.priority import Priority
from tiphys.apiserver.admission.runtime_class import RuntimeClass
from tiphys.apiserver.admission.service_account import ServiceAccount
from tiphys.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from tiphys.apiserver.types import Attributes, Plugin
from tiphys.base.errors import Forbidden, NotFound, Permanent
from tiphys.base.identity import User


def run(plugin: Plugin, attributes: Attributes) -> None:
    async def both() -> None:
        await plugin.admit(attributes)
        await plugin.validate(attributes)

    asyncio.run(both())


def refusal(plugin: Plugin, attributes: Attributes) -> str:
    with pytest.raises(Forbidden) as caught:
        run(plugin, attributes)
    return caught.value.message


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p1"}, "spec": {"containers": [{"name": "c", "image": "nginx"}], **spec}}


def named(name: str, namespace: str = "", **body: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, **body}


def test_plugins_run_in_upstreams_order() -> None:
    names = admission.choose((), ("LimitRanger",))
    assert names[:3] == ("NamespaceLifecycle", "ServiceAccount", "NodeRestriction")
    assert names[-2:] == ("ValidatingAdmissionWebhook", "ResourceQuota")
    assert len(set(admission.ORDER)) == len(admission.ORDER)


def test_unknown_plugins_are_refused_aloud() -> None:
    with pytest.raises(Permanent, match="Nonsense: no such plugin"):
        admission.choose(("Nonsense",), ())
    with pytest.raises(Permanent, match="Priority: both enabled and disabled"):
        admission.choose(("Priority",), ("Priority",))


def test_nothing_is_created_in_a_namespace_that_is_missing_or_going(reader: Any, attributes: Any) -> None:
    plugin = NamespaceLifecycle(reader)
    request = attributes("CREATE", "pods", pod(), namespace="shop", kind="Pod")
    with pytest.raises(NotFound, match='namespaces "shop" not found'):
        run(plugin, request)
    reader.add("", "namespaces", named("shop", status={"phase": "Terminating"}))
    with pytest.raises(Forbidden) as caught:
        run(plugin, request)
    assert caught.value.message == (
        'pods "p1" is forbidden: unable to create new content in namespace shop because it is being terminated'
    )
    assert caught.value.details["causes"][0]["reason"] == "NamespaceTerminating"
    run(plugin, attributes("DELETE", "pods", None, namespace="shop", name="p1", kind="Pod"))
    immortal = attributes("DELETE", "namespaces", None, namespace="default", name="default", kind="Namespace")
    assert refusal(plugin, immortal) == 'namespaces "default" is forbidden: this namespace may not be deleted'


def test_a_pod_gets_its_account_token_volume_and_pull_secrets(reader: Any, attributes: Any) -> None:
    reader.add("", "serviceaccounts", named("default", "shop", imagePullSecrets=[{"name": "registry"}]))
    obj = pod(initContainers=[{"name": "i", "image": "x"}])
    run(ServiceAccount(reader), attributes("CREATE", "pods", obj, namespace="shop"))
    spec = obj["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    (volume,) = spec["volumes"]
    assert re.fullmatch("kube-api-access-[a-z0-9]{5}", volume["name"])
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    mount = {
        "name": volume["name"],
        "readOnly": True,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    }
    assert spec["containers"][0]["volumeMounts"] == spec["initContainers"][0]["volumeMounts"] == [mount]


def test_a_pod_may_do_without_the_token(reader: Any, attributes: Any) -> None:
    reader.add("", "serviceaccounts", named("default", "shop", automountServiceAccountToken=False))
    obj = pod()
    run(ServiceAccount(reader), attributes("CREATE", "pods", obj, namespace="shop"))
    assert "volumes" not in obj["spec"]


def test_a_pod_of_a_missing_account_is_refused(reader: Any, attributes: Any) -> None:
    request = attributes("CREATE", "pods", pod(serviceAccountName="none"), namespace="shop")
    assert refusal(ServiceAccount(reader), request) == (
        'pods "p1" is forbidden: error looking up service account shop/none: serviceaccount "none" not found'
    )


def test_priority_comes_from_the_class(reader: Any, attributes: Any) -> None:
    plugin = Priority(reader)
    obj = pod()
    run(plugin, attributes("CREATE", "pods", obj, namespace="shop"))
    assert (obj["spec"]["priority"], obj["spec"]["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    high = named("high", value=10, preemptionPolicy="Never", globalDefault=True)
    reader.add("scheduling.k8s.io", "priorityclasses", high)
    obj = pod()
    run(plugin, attributes("CREATE", "pods", obj, namespace="shop"))
    assert (obj["spec"]["priorityClassName"], obj["spec"]["priority"]) == ("high", 10)
    second = attributes("CREATE", "priorityclasses", named("two", globalDefault=True), group="scheduling.k8s.io")
    assert "PriorityClass high is already marked as default. Only one default can exist" in refusal(plugin, second)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"priorityClassName": "no"}, "no PriorityClass with name no was found"),
        (
            {"priority": 3},
            "the integer value of priority (3) must not be provided in pod spec; priority admission controller "
            "computed 0 from the given PriorityClass name",
        ),
        (
            {"preemptionPolicy": "x"},
            "the string value of PreemptionPolicy (x) must not be provided in pod spec; priority admission "
            "controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ],
)
def test_a_priority_that_contradicts_is_refused(reader: Any, attributes: Any, spec: Any, message: str) -> None:
    request = attributes("CREATE", "pods", pod(**spec), namespace="shop")
    assert refusal(Priority(reader), request) == f'pods "p1" is forbidden: {message}'


def test_pods_tolerate_a_failed_node_for_five_minutes(attributes: Any) -> None:
    obj = pod(tolerations=[{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}])
    run(DefaultTolerationSeconds(), attributes("CREATE", "pods", obj, namespace="shop"))
    assert obj["spec"]["tolerations"][1:] == [
        {
            "key": "node.kubernetes.io/unreachable",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 300,
        }
    ]
    everything = pod(tolerations=[{"operator": "Exists"}])
    run(DefaultTolerationSeconds(), attributes("CREATE", "pods", everything, namespace="shop"))
    assert everything["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_a_new_node_is_tainted_until_it_is_ready(attributes: Any) -> None:
    node = named("n1", spec={})
    run(TaintNodesByCondition(), attributes("CREATE", "nodes", node))
    assert node["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


def limits(reader: Any, **item: Any) -> LimitRanger:
    reader.add("", "limitranges", named("limits", "shop", spec={"limits": [item]}))
    return LimitRanger(reader)


def test_containers_get_default_requests_and_limits(reader: Any, attributes: Any) -> None:
    plugin = limits(reader, type="Container", default={"cpu": "1", "memory": "1Gi"}, defaultRequest={"cpu": "100m"})
    obj = pod()
    obj["spec"]["containers"][0]["resources"] = {"limits": {"memory": "2Gi"}}
    run(plugin, attributes("CREATE", "pods", obj, namespace="shop"))
    assert obj["spec"]["containers"][0]["resources"] == {
        "limits": {"memory": "2Gi", "cpu": "1"},
        "requests": {"cpu": "100m"},
    }
    assert obj["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    )


@pytest.mark.parametrize(
    ("item", "resources", "message"),
    [
        (
            {"min": {"cpu": "1"}},
            {"requests": {"cpu": "500m"}},
            "minimum cpu usage per Container is 1, but request is 500m",
        ),
        ({"min": {"cpu": "1"}}, {}, "minimum cpu usage per Container is 1.  No request is specified"),
        (
            {"max": {"memory": "1Gi"}},
            {"limits": {"memory": "2Gi"}},
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
    ],
)
def test_containers_keep_within_their_bounds(
    reader: Any, attributes: Any, item: Any, resources: Any, message: str
) -> None:
    obj = pod()
    obj["spec"]["containers"][0]["resources"] = resources
    request = attributes("CREATE", "pods", obj, namespace="shop")
    assert refusal(limits(reader, type="Container", **item), request) == f'pods "p1" is forbidden: {message}'


def test_a_pods_sum_keeps_within_its_bounds(reader: Any, attributes: Any) -> None:
    obj = pod()
    containers = [{"name": n, "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}} for n in "ab"]
    obj["spec"]["containers"] = containers
    plugin = limits(reader, type="Pod", max={"cpu": "1500m"})
    message = 'pods "p1" is forbidden: maximum cpu usage per Pod is 1500m, but limit is 2'
    assert refusal(plugin, attributes("CREATE", "pods", obj, namespace="shop")) == message


def test_a_runtime_class_gives_overhead_and_nodes(reader: Any, attributes: Any) -> None:
    plugin = RuntimeClass(reader)
    request = attributes("CREATE", "pods", pod(runtimeClassName="kata"), namespace="shop")
    assert refusal(plugin, request) == 'pods "p1" is forbidden: pod rejected: RuntimeClass "kata" not found'
    scheduling = {"nodeSelector": {"kata": "yes"}, "tolerations": [{"key": "kata"}]}
    body = named("kata", overhead={"podFixed": {"cpu": "250m"}}, scheduling=scheduling)
    reader.add("node.k8s.io", "runtimeclasses", body)
    obj = pod(runtimeClassName="kata")
    run(plugin, attributes("CREATE", "pods", obj, namespace="shop"))
    assert obj["spec"]["overhead"] == {"cpu": "250m"}
    assert obj["spec"]["nodeSelector"] == {"kata": "yes"}
    assert obj["spec"]["tolerations"] == [{"key": "kata"}]
    conflict = attributes("CREATE", "pods", pod(runtimeClassName="kata", nodeSelector={"kata": "no"}), namespace="shop")
    assert "conflict: runtimeClass.scheduling.nodeSelector[kata] = yes; pod.spec.nodeSelector[kata] = no" in (
        refusal(plugin, conflict)
    )


def test_a_claim_gets_the_newest_default_class_and_its_finalizer(reader: Any, attributes: Any) -> None:
    for name, moment in (("old", "2025-01-01T00:00:00Z"), ("new", "2026-01-01T00:00:00Z")):
        metadata = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
        body = named(name)
        body["metadata"] |= metadata | {"creationTimestamp": moment}
        reader.add("storage.k8s.io", "storageclasses", body)
    claim = named("data", spec={})
    for plugin in (DefaultStorageClass(reader), StorageObjectInUseProtection()):
        run(plugin, attributes("CREATE", "persistentvolumeclaims", claim, namespace="shop"))
    assert claim["spec"]["storageClassName"] == "new"
    assert claim["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


def test_only_a_bound_claim_of_a_growing_class_grows(reader: Any, attributes: Any) -> None:
    def claim(size: str, phase: str) -> dict[str, Any]:
        spec = {"storageClassName": "disk", "resources": {"requests": {"storage": size}}}
        return named("data", spec=spec, status={"phase": phase})

    plugin = PersistentVolumeClaimResize(reader)
    update = ("UPDATE", "persistentvolumeclaims", claim("2Gi", "Pending"))
    assert "Only bound persistent volume claims can be expanded" in refusal(
        plugin, attributes(*update, claim("1Gi", "Pending"), name="data")
    )
    bound = claim("1Gi", "Bound")
    assert "only dynamically provisioned pvc" in refusal(plugin, attributes(*update, bound, name="data"))
    reader.add("storage.k8s.io", "storageclasses", named("disk", allowVolumeExpansion=True))
    run(plugin, attributes(*update, bound, name="data"))


def test_an_ingress_gets_the_default_class(reader: Any, attributes: Any) -> None:
    body = named("nginx")
    body["metadata"]["annotations"] = {"ingressclass.kubernetes.io/is-default-class": "true"}
    reader.add("networking.k8s.io", "ingressclasses", body)
    ingress = named("web", spec={})
    run(DefaultIngressClass(reader), attributes("CREATE", "ingresses", ingress, group="networking.k8s.io"))
    assert ingress["spec"]["ingressClassName"] == "nginx"


NODE = User("system:node:n1", groups=("system:nodes",))


def test_a_node_changes_only_itself(reader: Any, attributes: Any) -> None:
    plugin = NodeRestriction(reader)
    labels = {"kubernetes.io/hostname": "n1", "node.kubernetes.io/x": "1", "team": "a"}
    mine = named("n1", spec={})
    mine["metadata"]["labels"] = labels
    run(plugin, attributes("CREATE", "nodes", mine, user=NODE))
    other = attributes("UPDATE", "nodes", named("n2"), named("n2"), name="n2", user=NODE)
    assert 'node "n1" is not allowed to modify node "n2"' in refusal(plugin, other)
    bad = named("n1", spec={})
    bad["metadata"]["labels"] = {"node-restriction.kubernetes.io/x": "1", "foo.k8s.io/y": "1"}
    assert "is not allowed to set the following labels: foo.k8s.io/y, node-restriction.kubernetes.io/x" in refusal(
        plugin, attributes("CREATE", "nodes", bad, user=NODE)
    )
    tainted = named("n1", spec={"taints": [{"key": "x"}]})
    update = attributes("UPDATE", "nodes", tainted, named("n1", spec={}), name="n1", user=NODE)
    assert 'node "n1" is not allowed to modify taints' in refusal(plugin, update)
    run(plugin, attributes("UPDATE", "nodes", tainted, named("n1", spec={}), name="n1", user=User("jane")))


def test_a_node_touches_only_its_own_pods(reader: Any, attributes: Any) -> None:
    plugin = NodeRestriction(reader)
    theirs = named("p", "shop", spec={"nodeName": "n2"})
    reader.add("", "pods", theirs)
    where = {"namespace": "shop", "name": "p", "user": NODE}
    assert "can only delete pods with spec.nodeName set to itself" in refusal(
        plugin, attributes("DELETE", "pods", None, theirs, **where)
    )
    status = attributes("UPDATE", "pods", theirs, theirs, subresource="status", **where)
    assert "can only update pod status for pods" in refusal(plugin, status)
    assert "can only create mirror pods" in refusal(plugin, attributes("CREATE", "pods", pod(), **where))


def test_a_node_asks_tokens_only_for_pods_it_runs(reader: Any, attributes: Any) -> None:
    plugin = NodeRestriction(reader)
    source = {"serviceAccountToken": {"path": "token"}}
    body = named("p", "shop", spec={"nodeName": "n1", "volumes": [{"name": "v", "projected": {"sources": [source]}}]})
    body["metadata"]["uid"] = "u"
    reader.add("", "pods", body)

    def ask(reference: dict[str, str] | None, **spec: Any) -> Attributes:
        obj = {"spec": {**({"boundObjectRef": reference} if reference else {}), **spec}}
        request: Attributes = attributes(
            "CREATE", "serviceaccounts", obj, namespace="shop", name="web", subresource="token", user=NODE
        )
        return request

    reference = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
    run(plugin, ask(reference))
    assert "node requested token not bound to a pod" in refusal(plugin, ask(None))
    assert "does not match the UID in record" in refusal(plugin, ask({**reference, "uid": "v"}))
    assert 'audience "vault" not found in pod spec volume' in refusal(plugin, ask(reference, audiences=["vault"]))


@pytest.mark.parametrize(
    ("spec", "referred"),
    [
        ({"serviceAccountName": "admin"}, "serviceaccounts"),
        ({"imagePullSecrets": [{"name": "s"}]}, "secrets"),
        ({"volumes": [{"name": "v", "configMap": {"name": "m"}}]}, "configmaps"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "m"}}]}, "persistentvolumeclaims"),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}]}, "serviceaccounts"),
        ({"resourceClaims": [{"name": "r"}]}, "resourceclaims"),
        ({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/"}}]}, ""),
    ],
)
def test_a_nodes_mirror_pods_refer_to_nothing_it_could_read_by_them(
    reader: Any, attributes: Any, spec: dict[str, Any], referred: str
) -> None:
    reader.add("", "nodes", {"metadata": {"name": "n1", "uid": "u"}})
    mirror = pod(nodeName="n1", **spec)
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": True}
    mirror["metadata"] |= {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}
    request = attributes("CREATE", "pods", mirror, namespace="shop", user=NODE)
    if referred:
        assert f'node "n1" can not create pods that reference {referred}' in refusal(NodeRestriction(reader), request)
    else:
        run(NodeRestriction(reader), request)
