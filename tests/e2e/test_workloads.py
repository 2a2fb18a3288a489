"""The controllers of workloads with real kubectl and real containers: what users lean on when pods fail and roll."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e
WAIT = "trap exit TERM; while [ ! -e /tmp/end ]; do sleep 0.1; done; exit $(cat /tmp/end)"


@pytest.fixture
def workloads(cluster: Commands, request: pytest.FixtureRequest) -> Iterator[Commands]:
    """A namespace for the test alone, which kubectl's context names meanwhile."""
    namespace = request.node.name.removeprefix("test_").replace("_", "-")[:63].rstrip("-")
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}")
    yield cluster
    cluster.kubectl("config", "set-context", "--current", "--namespace=default")
    cluster.kubectl("delete", "namespace", namespace)


def container(script: str = WAIT, **more: Any) -> dict[str, Any]:
    return {"name": "main", "image": "busybox", "command": ["sh", "-c", script], **more}


def template(app: str, script: str = WAIT, **more: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container(script)], **more}}


def create(commands: Commands, kind: str, name: str, spec: dict[str, Any], version: str = "apps/v1") -> None:
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    commands.kubectl("create", "-f", "-", stdin=json.dumps(body))


def workload(name: str, replicas: int, **more: Any) -> dict[str, Any]:
    return {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": template(name),
        **more,
    }


def pods(commands: Commands, app: str) -> list[str]:
    found = commands.get("pods", "-l", f"app={app}")["items"]
    return sorted(pod["metadata"]["name"] for pod in found)


def uids(commands: Commands, app: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in commands.get("pods", "-l", f"app={app}")["items"]}


def reasons(commands: Commands, name: str) -> set[str]:
    found = commands.get("events", "--field-selector", f"involvedObject.name={name}")["items"]
    return {event["reason"] for event in found}


def condition(commands: Commands, what: str, name: str, kind: str) -> dict[str, Any]:
    found = commands.get(what, name).get("status", {}).get("conditions") or ()
    return next((each for each in found if each["type"] == kind), {})


def test_a_stateful_set_has_names_and_goes_up_and_down_in_order(workloads: Commands) -> None:
    create(workloads, "StatefulSet", "db", workload("db", 3, serviceName="db"))
    workloads.kubectl("rollout", "status", "sts/db", "--timeout=60s")
    found = workloads.get("pods", "-l", "app=db")["items"]
    started = {pod["metadata"]["name"]: pod["metadata"]["creationTimestamp"] for pod in found}
    assert sorted(started) == ["db-0", "db-1", "db-2"]
    assert started["db-0"] <= started["db-1"] <= started["db-2"]
    assert workloads.out("exec", "db-1", "--", "hostname") == "db-1"
    workloads.kubectl("scale", "sts/db", "--replicas=1")
    workloads.wait("sts/db", "jsonpath={.status.replicas}=1")
    assert pods(workloads, "db") == ["db-0"]


def test_a_stateful_set_s_partition_keeps_the_first_and_undo_goes_back(workloads: Commands) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    create(workloads, "StatefulSet", "db", workload("db", 2, serviceName="db", updateStrategy=strategy))
    workloads.kubectl("rollout", "status", "sts/db", "--timeout=60s")
    workloads.kubectl("set", "env", "sts/db", "COLOUR=green")
    workloads.kubectl("rollout", "status", "sts/db", "--timeout=60s")
    assert workloads.out("exec", "db-1", "--", "sh", "-c", "echo $COLOUR") == "green"
    assert workloads.out("exec", "db-0", "--", "sh", "-c", "echo $COLOUR") == ""
    green = workloads.get("pod", "db-1")["metadata"]["uid"]
    workloads.kubectl("rollout", "undo", "sts/db")
    workloads.until(lambda: green not in uids(workloads, "db") and len(pods(workloads, "db")) == 2)
    workloads.wait("pod/db-1", "condition=Ready")
    assert workloads.out("exec", "db-1", "--", "sh", "-c", "echo $COLOUR") == ""


def test_a_stateful_set_s_claims_keep_what_its_pods_wrote(workloads: Commands, tmp_path: Path) -> None:
    for number in range(2):
        place = {"accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(tmp_path / str(number))}}
        create(workloads, "PersistentVolume", f"disk-{number}", {**place, "capacity": {"storage": "1Gi"}}, "v1")
    request = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"metadata": {"name": "data"}, "spec": request}
    wanted = workload("kept", 2, serviceName="kept", volumeClaimTemplates=[claim])
    wanted["template"]["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    create(workloads, "StatefulSet", "kept", wanted)
    workloads.kubectl("rollout", "status", "sts/kept", "--timeout=60s")
    for name in ("kept-0", "kept-1"):
        workloads.kubectl("exec", name, "--", "sh", "-c", "hostname > /data/name")
    workloads.kubectl("delete", "pod", "kept-0", "kept-1")
    workloads.kubectl("rollout", "status", "sts/kept", "--timeout=60s")
    for name in ("kept-0", "kept-1"):
        workloads.wait(f"pod/{name}", "condition=Ready")
        assert workloads.out("exec", name, "--", "cat", "/data/name") == name
    assert sorted(path.read_text() for path in tmp_path.glob("*/name")) == ["kept-0\n", "kept-1\n"]
    workloads.kubectl("delete", "sts", "kept", "--wait")
    workloads.kubectl("delete", "pvc", "--all")
    workloads.wait("pv/disk-0", "jsonpath={.status.phase}=Released")
    workloads.kubectl("delete", "pv", "disk-0", "disk-1")


def test_a_deployment_that_does_not_progress_says_so_and_can_be_undone(workloads: Commands) -> None:
    create(workloads, "Deployment", "web", workload("web", 2, progressDeadlineSeconds=3, minReadySeconds=1))
    workloads.kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    workloads.kubectl("set", "image", "deploy/web", "main=there.is.none.invalid/web")
    workloads.until(
        lambda: condition(workloads, "deploy", "web", "Progressing")["reason"] == "ProgressDeadlineExceeded"
    )
    assert condition(workloads, "deploy", "web", "Available")["status"] == "True"
    workloads.kubectl("rollout", "undo", "deploy/web")
    workloads.kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    workloads.until(lambda: len(pods(workloads, "web")) == 2)  # the one that never ran may still be on its way out


def test_a_paused_deployment_waits(workloads: Commands) -> None:
    create(workloads, "Deployment", "web", workload("web", 2))
    workloads.kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    workloads.kubectl("rollout", "pause", "deploy/web")
    workloads.kubectl("set", "env", "deploy/web", "A=1")
    workloads.wait("deploy/web", "condition=Progressing=Unknown")
    assert not workloads.get("deploy", "web")["status"].get("updatedReplicas")
    workloads.kubectl("rollout", "resume", "deploy/web")
    workloads.kubectl("rollout", "status", "deploy/web", "--timeout=60s")


def test_recreate_never_runs_old_and_new_together(workloads: Commands) -> None:
    create(workloads, "Deployment", "lone", workload("lone", 2, strategy={"type": "Recreate"}))
    workloads.kubectl("rollout", "status", "deploy/lone", "--timeout=60s")
    parts = ("type", "object.metadata.name", "object.metadata.labels.pod-template-hash", "object.status.phase")
    words = "jsonpath=" + " ".join(f"{{.{part}}}" for part in parts) + "{'\\n'}"
    watch = workloads.popen("get", "pods", "-l", "app=lone", "-w", "--output-watch-events", "-o", words)
    workloads.kubectl("set", "env", "deploy/lone", "A=1")
    workloads.kubectl("rollout", "status", "deploy/lone", "--timeout=60s")
    watch.terminate()
    assert watch.stdout is not None
    living: dict[str, str] = {}
    for line in watch.stdout.read().splitlines():
        kind, name, digest, phase = line.split()
        living[name] = digest
        if kind == "DELETED" or phase in {"Succeeded", "Failed"}:
            del living[name]
        assert len(set(living.values())) <= 1


def test_a_replica_set_takes_a_fitting_pod_and_lets_one_go_that_does_not_fit(workloads: Commands) -> None:
    create(workloads, "ReplicaSet", "set", workload("set", 2))
    workloads.wait("rs/set", "jsonpath={.status.readyReplicas}=2")
    first = pods(workloads, "set")[0]
    workloads.kubectl("label", "pod", first, "app=free", "--overwrite")
    workloads.until(lambda: len(pods(workloads, "set")) == 2)
    assert "ownerReferences" not in workloads.get("pod", first)["metadata"]
    workloads.kubectl("delete", "rs", "set", "--cascade=orphan")
    left = pods(workloads, "set")
    create(workloads, "ReplicaSet", "heir", workload("set", 2))
    workloads.wait("rs/heir", "jsonpath={.status.readyReplicas}=2")
    assert pods(workloads, "set") == left
    workloads.kubectl("delete", "rs", "heir", "--cascade=foreground")
    assert pods(workloads, "set") == []


def test_an_indexed_job_counts_indexes_and_gives_up_on_one_alone(workloads: Commands) -> None:
    script = "echo $JOB_COMPLETION_INDEX; test $JOB_COMPLETION_INDEX != 1"
    spec = {
        "completions": 3,
        "parallelism": 3,
        "completionMode": "Indexed",
        "backoffLimitPerIndex": 0,
        "template": template("indexed", script, restartPolicy="Never"),
    }
    create(workloads, "Job", "indexed", spec, "batch/v1")
    workloads.wait("job/indexed", "condition=Failed")
    status = workloads.get("job", "indexed")["status"]
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2", "1")
    assert (status["succeeded"], status["failed"]) == (2, 1)
    assert condition(workloads, "job", "indexed", "Failed")["reason"] == "FailedIndexes"
    for pod in workloads.get("pods", "-l", "app=indexed")["items"]:
        assert "finalizers" not in pod["metadata"]


def test_a_job_s_failure_policy_tells_exit_codes_apart(workloads: Commands) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    spec = {
        "podFailurePolicy": {"rules": [rule]},
        "template": template("policy", "exit 42", restartPolicy="Never"),
    }
    create(workloads, "Job", "policy", spec, "batch/v1")
    workloads.wait("job/policy", "condition=Failed")
    found = condition(workloads, "job", "policy", "Failed")
    assert found["reason"] == "PodFailurePolicy"
    assert "exit code 42" in found["message"]
    assert "rule at index 0" in found["message"]


def test_a_job_is_suspended_and_goes_on(workloads: Commands) -> None:
    create(workloads, "Job", "held", {"template": template("held", restartPolicy="Never")}, "batch/v1")
    workloads.wait("job/held", "jsonpath={.status.ready}=1")
    workloads.kubectl("patch", "job", "held", "-p", '{"spec":{"suspend":true}}')
    workloads.wait("job/held", "condition=Suspended")
    workloads.until(lambda: not pods(workloads, "held"))
    workloads.kubectl("patch", "job", "held", "-p", '{"spec":{"suspend":false}}')
    workloads.wait("job/held", "jsonpath={.status.ready}=1")
    [name] = pods(workloads, "held")
    workloads.kubectl("exec", name, "--", "sh", "-c", "echo 0 > /tmp/end")
    workloads.wait("job/held", "condition=Complete")
    assert {"Suspended", "Resumed", "SuccessfulCreate", "SuccessfulDelete", "Completed"} <= reasons(workloads, "held")


def test_a_cron_job_can_be_run_by_hand(workloads: Commands) -> None:
    job = {"spec": {"template": template("hand", "echo done", restartPolicy="OnFailure")}}
    create(workloads, "CronJob", "hand", {"schedule": "@yearly", "jobTemplate": job}, "batch/v1")
    workloads.kubectl("create", "job", "by-hand", "--from=cronjob/hand")
    workloads.wait("job/by-hand", "condition=Complete")
    assert workloads.out("logs", "job/by-hand") == "done"
    workloads.kubectl("delete", "cronjob", "hand")
    workloads.until(lambda: workloads.kubectl("get", "job", "by-hand", check=False).returncode == 1)


def test_a_budget_holds_up_a_drain_until_it_may_go_on(workloads: Commands) -> None:
    create(workloads, "Deployment", "kept", workload("kept", 2))
    workloads.kubectl("rollout", "status", "deploy/kept", "--timeout=60s")
    workloads.kubectl("create", "poddisruptionbudget", "kept", "--selector=app=kept", "--min-available=2")
    workloads.wait("pdb/kept", "jsonpath={.status.currentHealthy}=2")
    [victim, _] = pods(workloads, "kept")
    node = workloads.get("pod", victim)["spec"]["nodeName"]
    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=app=kept")
    refused = workloads.kubectl("drain", node, *options, "--timeout=1s", check=False)
    assert "Cannot evict pod as it would violate the pod's disruption budget." in refused.stderr
    assert victim in pods(workloads, "kept")
    workloads.kubectl("patch", "pdb", "kept", "-p", '{"spec":{"minAvailable":1}}')
    workloads.kubectl("drain", node, *options, "--timeout=60s")
    assert victim not in pods(workloads, "kept")
    workloads.kubectl("uncordon", node)
    workloads.kubectl("rollout", "status", "deploy/kept", "--timeout=60s")


def test_an_autoscaler_keeps_a_size_within_bounds_and_says_what_metrics_it_misses(workloads: Commands) -> None:
    create(workloads, "Deployment", "kept", workload("kept", 1))
    workloads.kubectl("autoscale", "deploy", "kept", "--min=2", "--max=3", "--cpu=50%")
    workloads.wait("deploy/kept", "jsonpath={.status.readyReplicas}=2")
    workloads.until(lambda: "SuccessfulRescale" in reasons(workloads, "kept"))
    workloads.until(lambda: condition(workloads, "hpa", "kept", "ScalingActive").get("status") == "False", 40)
    assert condition(workloads, "hpa", "kept", "ScalingActive")["reason"] == "FailedGetResourceMetric"


def test_a_quota_is_counted_and_given_back(workloads: Commands) -> None:
    workloads.kubectl("create", "quota", "few", "--hard=pods=1,count/deployments.apps=1")
    workloads.wait("quota/few", "jsonpath={.status.hard.pods}=1")  # until then it limits nothing, as upstream's
    create(workloads, "Deployment", "counted", workload("counted", 2))
    workloads.wait("quota/few", "jsonpath={.status.used.pods}=1")
    workloads.wait("deploy/counted", "condition=ReplicaFailure")
    assert "exceeded quota: few" in condition(workloads, "deploy", "counted", "ReplicaFailure")["message"]
    workloads.kubectl("delete", "deploy", "counted", "--wait")
    workloads.wait("quota/few", "jsonpath={.status.used.pods}=0")
