"""The objects that users make: small ones of every kind, with random specs."""

from __future__ import annotations

from random import Random
from typing import Any

Manifest = dict[str, Any]
GROUP = "random.example.com"


def head(version: str, kind: str, name: str, where: str = "") -> Manifest:
    meta = {"name": name, **({"namespace": where} if where else {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta}


def template(name: str, image: str = "image:0", **spec: Any) -> Manifest:
    container = {"name": "main", "image": image, "resources": {"requests": {"cpu": "10m"}}}
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], **spec}}


def selector(name: str) -> Manifest:
    return {"matchLabels": {"app": name}}


def strategy(random: Random) -> Manifest:
    """Of a Deployment."""
    if random.random() < 0.2:
        return {"type": "Recreate", "rollingUpdate": None}
    surge, unavailable = random.choice([("25%", "25%"), (1, 0), (0, 1), (2, 0), (0, "50%"), ("100%", 1), (1, 1)])
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def deployment(random: Random, name: str, where: str) -> Manifest:
    spec = {
        "replicas": random.randint(0, 3),
        "selector": selector(name),
        "template": template(name),
        "strategy": strategy(random),
        "revisionHistoryLimit": random.choice([0, 1, 10]),
        "minReadySeconds": random.choice([0, 0, 0, 5]),
        "progressDeadlineSeconds": random.choice([60, 600]),
    }
    return {**head("apps/v1", "Deployment", name, where), "spec": spec}


def replica_set(random: Random, name: str, where: str) -> Manifest:
    spec = {"replicas": random.randint(0, 3), "selector": selector(name), "template": template(name)}
    return {**head("apps/v1", "ReplicaSet", name, where), "spec": spec}


def replication_controller(random: Random, name: str, where: str) -> Manifest:
    spec = {"replicas": random.randint(0, 3), "selector": {"app": name}, "template": template(name)}
    return {**head("v1", "ReplicationController", name, where), "spec": spec}


def stateful_set(random: Random, name: str, where: str) -> Manifest:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    keep = {each: random.choice(["Retain", "Delete"]) for each in ("whenDeleted", "whenScaled")}
    spec = {
        "replicas": random.randint(0, 3),
        "selector": selector(name),
        "serviceName": name,
        "template": template(name),
        "podManagementPolicy": random.choice(["OrderedReady", "Parallel"]),
        "ordinals": {"start": random.choice([0, 0, 2])},
        "volumeClaimTemplates": random.choice([[], [claim]]),
        "persistentVolumeClaimRetentionPolicy": keep,
        "revisionHistoryLimit": 2,
    }
    return {**head("apps/v1", "StatefulSet", name, where), "spec": spec}


def daemon_set(random: Random, name: str, where: str) -> Manifest:
    surge, unavailable = random.choice([(0, 1), (0, 2), (1, 0), ("50%", 0), (0, "50%")])
    update = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    spec = {
        "selector": selector(name),
        "template": template(name),
        "updateStrategy": random.choice([update, update, update, {"type": "OnDelete"}]),
        "revisionHistoryLimit": 2,
    }
    return {**head("apps/v1", "DaemonSet", name, where), "spec": spec}


def job_spec(random: Random, name: str) -> Manifest:
    """Of any kind of Job that ends by itself."""
    parallelism = random.randint(0, 4)
    completions = random.choice([None, 1, 2, 3, 5])
    spec: Manifest = {
        "parallelism": parallelism,
        "backoffLimit": random.choice([0, 1, 3, 6]),
        "template": template(name, restartPolicy=random.choice(["Never", "Never", "OnFailure"])),
        "suspend": random.random() < 0.1,
    }
    never = spec["template"]["spec"]["restartPolicy"] == "Never"
    if completions is not None:
        spec["completions"] = completions
        spec["completionMode"] = random.choice(["NonIndexed", "Indexed", "Indexed"])
        if spec["completionMode"] == "Indexed":
            _index_policies(random, spec, never)
    if never and random.random() < 0.4:
        action = random.choice(["FailJob", "Ignore", "Count"])
        rule = {"action": action, "onExitCodes": {"operator": "In", "values": [42]}}
        spec["podFailurePolicy"] = {"rules": [rule]}
        spec["podReplacementPolicy"] = "Failed"
    elif random.random() < 0.3:
        spec["podReplacementPolicy"] = random.choice(["Failed", "TerminatingOrFailed"])
    if random.random() < 0.2:
        spec["activeDeadlineSeconds"] = random.choice([20, 100])
    if random.random() < 0.3:
        spec["ttlSecondsAfterFinished"] = random.choice([0, 30])
    return spec


def _index_policies(random: Random, spec: Manifest, never: bool) -> None:
    if never and random.random() < 0.3:
        spec["backoffLimitPerIndex"] = random.choice([0, 1])
        spec["maxFailedIndexes"] = random.choice([0, 1, spec["completions"]])
        del spec["backoffLimit"]
    if random.random() < 0.2:
        spec["successPolicy"] = {"rules": [{"succeededCount": 1}]}


def job(random: Random, name: str, where: str) -> Manifest:
    return {**head("batch/v1", "Job", name, where), "spec": job_spec(random, name)}


def cron_job(random: Random, name: str, where: str) -> Manifest:
    inner = job_spec(random, name)
    inner["parallelism"] = min(2, inner["parallelism"])
    spec = {
        "schedule": random.choice(["* * * * *", "*/2 * * * *"]),
        "concurrencyPolicy": random.choice(["Allow", "Forbid", "Replace"]),
        "jobTemplate": {"spec": inner},
        "successfulJobsHistoryLimit": random.choice([0, 1, 3]),
        "failedJobsHistoryLimit": random.choice([0, 1]),
        "startingDeadlineSeconds": random.choice([30, 120]),
    }
    return {**head("batch/v1", "CronJob", name, where), "spec": spec}


def budget(random: Random, name: str, where: str) -> Manifest:
    bound: Manifest = random.choice(
        [{"minAvailable": 1}, {"minAvailable": "50%"}, {"maxUnavailable": 1}, {"maxUnavailable": 0}]
    )
    return {**head("policy/v1", "PodDisruptionBudget", name, where), "spec": {"selector": selector(name), **bound}}


def quota(random: Random, name: str, where: str) -> Manifest:
    hard = {"pods": str(random.choice([12, 20, 40])), "count/configmaps": str(random.choice([3, 5, 8]))}
    return {**head("v1", "ResourceQuota", name, where), "spec": {"hard": hard}}


def service(name: str, where: str) -> Manifest:
    spec = {"selector": {"app": name}, "ports": [{"port": 80}], "publishNotReadyAddresses": False}
    return {**head("v1", "Service", name, where), "spec": spec}


def widget(name: str, where: str) -> Manifest:
    """A custom object."""
    return {**head(f"{GROUP}/v1", "Widget", name, where), "spec": {}}


def definition() -> Manifest:
    """Of widgets."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    made = head("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"widgets.{GROUP}")
    return {**made, "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}}
