"""One of everything that controllers care for, in a state that can come to rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiphys.client import resources as known
from tiphys.client.types import Object, Resource
from tiphys.testing.cluster import Cluster

NAMESPACE = "busy"
WIDGET: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {"name": "one", "namespace": NAMESPACE},
    "spec": {"size": 1},
}
POLICY: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "small"},
    "spec": {
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}
            ]
        },
        "validations": [{"expression": "object.spec.replicas < 100"}, {"expression": "object.spec.typo == 1"}],
    },
}
BUDGETS = known.POD_DISRUPTION_BUDGETS
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers")
ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", namespaced=False)


def definition() -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": spec,
    }


def busy_objects() -> Iterable[tuple[Resource, Object]]:
    yield known.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    account = _named("v1", "ServiceAccount", "default")
    yield known.SERVICE_ACCOUNTS, account
    yield from _rules()
    yield from _storage()
    yield from _workloads()
    yield from _services()
    yield from _devices()


def _rules() -> Iterable[tuple[Resource, Object]]:
    hard = {"pods": "50", "services": "10", "count/configmaps": "20", "requests.storage": "100Gi"}
    yield known.RESOURCE_QUOTAS, _named("v1", "ResourceQuota", "quota", {"hard": hard})
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    yield BUDGETS, _named("policy/v1", "PodDisruptionBudget", "web", budget)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    scaling = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5}
    metrics = [{"type": "Resource", "resource": cpu}]
    scaler = _named("autoscaling/v2", "HorizontalPodAutoscaler", "web", {**scaling, "metrics": metrics})
    yield AUTOSCALERS, scaler
    role: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "sum"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "sum"}}]},
    }
    yield ROLES, role
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    part = {**role, "metadata": {"name": "part", "labels": {"part": "sum"}}, "rules": rules}
    del part["aggregationRule"]
    yield ROLES, part


def _storage() -> Iterable[tuple[Resource, Object]]:
    for number in range(3):
        source = {"hostPath": {"path": f"/disks/{number}"}}
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "manual",
            **source,
        }
        meta = {"name": f"disk-{number}"}
        yield known.PERSISTENT_VOLUMES, {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec}
    yield known.PERSISTENT_VOLUME_CLAIMS, _named("v1", "PersistentVolumeClaim", "data", _claim())
    csi = {"driver": "disks.example.com", "volumeHandle": "far"}
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "far", "csi": csi}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "far"}, "spec": spec}
    yield known.PERSISTENT_VOLUMES, volume
    claim = _named("v1", "PersistentVolumeClaim", "far", {**_claim(), "storageClassName": "far"})
    yield known.PERSISTENT_VOLUME_CLAIMS, claim


def _claim() -> dict[str, Any]:
    room = {"requests": {"storage": "1Gi"}}
    return {"accessModes": ["ReadWriteOnce"], "storageClassName": "manual", "resources": room}


def _workloads() -> Iterable[tuple[Resource, Object]]:
    web = {"replicas": 3, **_selecting("web")}
    yield known.DEPLOYMENTS, _named("apps/v1", "Deployment", "web", web)
    yield known.REPLICA_SETS, _named("apps/v1", "ReplicaSet", "set", {"replicas": 2, **_selecting("set")})
    control = {"replicas": 1, "selector": {"app": "control"}, "template": _template("control")}
    yield known.REPLICATION_CONTROLLERS, _named("v1", "ReplicationController", "control", control)
    yield known.DAEMON_SETS, _named("apps/v1", "DaemonSet", "agent", _selecting("agent"))
    claim = {"metadata": {"name": "state"}, "spec": _claim()}
    base = {"replicas": 2, "serviceName": "base", "volumeClaimTemplates": [claim], **_selecting("base")}
    yield known.STATEFUL_SETS, _named("apps/v1", "StatefulSet", "base", base)
    ending = _template("once", ends="yes")
    ending["spec"]["restartPolicy"] = "Never"
    yield known.JOBS, _named("batch/v1", "Job", "once", {"completions": 2, "template": ending})
    template = {"spec": {"template": ending}}
    tick = {"schedule": "* * * * *", "suspend": True, "jobTemplate": template}
    yield known.CRON_JOBS, _named("batch/v1", "CronJob", "tick", tick)
    volumes = [
        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "e", "emptyDir": {}},
    ]
    containers = [{"name": "c", "image": "i"}]
    yield known.PODS, _named("v1", "Pod", "bare", {"containers": containers, "volumes": volumes})
    far = [{"name": "d", "persistentVolumeClaim": {"claimName": "far"}}]
    yield known.PODS, _named("v1", "Pod", "far", {"containers": containers, "volumes": far})


def _services() -> Iterable[tuple[Resource, Object]]:
    ports = [{"port": 80}]
    yield known.SERVICES, _named("v1", "Service", "web", {"selector": {"app": "web"}, "ports": ports})
    headless = {"selector": {"app": "base"}, "ports": ports, "clusterIP": "None"}
    yield known.SERVICES, _named("v1", "Service", "base", headless)
    yield known.SERVICES, _named("v1", "Service", "outside", {"ports": ports})
    subsets = [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]
    yield known.ENDPOINTS, {**_named("v1", "Endpoints", "outside"), "subsets": subsets}


def _devices() -> Iterable[tuple[Resource, Object]]:
    requests = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpus"}}]}}
    template = _named("resource.k8s.io/v1", "ResourceClaimTemplate", "gpus", {"spec": requests})
    yield known.RESOURCE_CLAIM_TEMPLATES, template
    container = {"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}
    claims = [{"name": "gpu", "resourceClaimTemplateName": "gpus"}]
    yield known.PODS, _named("v1", "Pod", "device", {"containers": [container], "resourceClaims": claims})


def _named(version: str, kind: str, name: str, spec: Any = None) -> dict[str, Any]:
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **({"spec": spec} if spec is not None else {})}


def _selecting(app: str) -> dict[str, Any]:
    return {"selector": {"matchLabels": {"app": app}}, "template": _template(app)}


def _template(app: str, **labels: str) -> dict[str, Any]:
    resources = {"requests": {"cpu": "100m"}}
    containers = [{"name": "c", "image": "i", "resources": resources}]
    return {"metadata": {"labels": {"app": app, **labels}}, "spec": {"containers": containers}}


async def settled(cluster: Cluster) -> None:
    """Wait until the workloads are complete; say of the far volume that it is attached."""

    def ready(number: int) -> Any:
        return lambda obj: (obj.get("status") or {}).get("readyReplicas") == number

    await cluster.wait(known.DEPLOYMENTS, NAMESPACE, "web", ready(3))
    await cluster.wait(known.STATEFUL_SETS, NAMESPACE, "base", ready(2))
    await cluster.wait(known.JOBS, NAMESPACE, "once", lambda job: bool(job["status"].get("completionTime")))
    await cluster.wait(known.PODS, NAMESPACE, "device", lambda pod: bool(pod["status"].get("resourceClaimStatuses")))
    await cluster.wait(
        known.PERSISTENT_VOLUME_CLAIMS, NAMESPACE, "data", lambda claim: claim["status"].get("phase") == "Bound"
    )
    attachments = (await cluster.client.list(known.VOLUME_ATTACHMENTS)).items
    for each in attachments:
        attached = {**each, "status": {"attached": True}}
        await cluster.client.update(known.VOLUME_ATTACHMENTS, attached, subresource="status")
    assert len(attachments) == 1
