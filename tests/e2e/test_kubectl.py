"""kubectl's own ways of asking, against a real cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.commands import EXAMPLES, Commands

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def pod(cluster: Commands) -> Commands:
    cluster.kubectl("run", "asked", "--image=nginx", "--labels=app=asked")
    cluster.wait("pod/asked", "condition=Ready")
    return cluster


def test_explain_prints_the_fields(cluster: Commands) -> None:
    text = cluster.out("explain", "pod.status")
    assert "FIELD: status <PodStatus>" in text
    assert "containerStatuses" in text
    assert "KIND:       CronJob" in cluster.out("explain", "cronjob")


def test_server_side_dry_run_changes_nothing(cluster: Commands) -> None:
    file = str(EXAMPLES / "nginx-rs.yaml")
    assert "created (server dry run)" in cluster.out("apply", "--dry-run=server", "-f", file)
    assert cluster.kubectl("get", "rs", "nginx-rs", check=False).returncode == 1


def test_diff_shows_what_apply_would_change(cluster: Commands, tmp_path: Path) -> None:
    file = tmp_path / "map.yaml"
    file.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: compared}\ndata: {a: '1'}\n")
    cluster.kubectl("apply", "-f", str(file))
    assert cluster.kubectl("diff", "-f", str(file), check=False).returncode == 0
    file.write_text(file.read_text().replace("'1'", "'2'"))
    changed = cluster.kubectl("diff", "-f", str(file), check=False)
    assert changed.returncode == 1
    assert '+  a: "2"' in changed.stdout
    cluster.kubectl("delete", "-f", str(file))


def test_get_prints_every_format(pod: Commands) -> None:
    assert pod.out("get", "pod", "asked").splitlines()[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    wide = pod.out("get", "pod", "asked", "-o", "wide").splitlines()
    assert wide[0].split()[5:8] == ["IP", "NODE", "NOMINATED"]
    assert "node-" in wide[1]
    assert json.loads(pod.out("get", "pod", "asked", "-o", "json"))["metadata"]["name"] == "asked"
    assert "kind: Pod" in pod.out("get", "pod", "asked", "-o", "yaml")
    assert pod.out("get", "pods", "-l", "app=asked", "-o", "jsonpath={.items[*].metadata.name}") == "asked"
    assert pod.out("get", "pods", "--field-selector", "metadata.name=asked", "-o", "name") == "pod/asked"


def test_watch_shows_changes_as_they_come(pod: Commands) -> None:
    watch = pod.popen("get", "configmaps", "-w", "--output-watch-events", "-o", "name")
    try:
        assert watch.stdout is not None
        pod.kubectl("create", "configmap", "watched")
        while "watched" not in watch.stdout.readline():
            pass
    finally:
        watch.terminate()
        watch.wait()
        pod.kubectl("delete", "configmap", "watched")


def test_delete_waits_until_the_pod_is_gone(pod: Commands) -> None:
    pod.kubectl("delete", "pod", "asked", "--wait", "--grace-period=2")
    missing = pod.kubectl("get", "pod", "asked", check=False)
    assert 'pods "asked" not found' in missing.stderr


def test_who_may_what(cluster: Commands) -> None:
    assert cluster.out("auth", "can-i", "create", "pods") == "yes"
    asked = cluster.kubectl(
        "auth", "can-i", "get", "secrets", "--as=system:serviceaccount:default:default", check=False
    )
    assert asked.stdout.strip() == "no"
    assert "nodes" in cluster.out("api-resources", "--namespaced=false", "-o", "name")


def test_old_manifests_are_served_with_a_warning(cluster: Commands) -> None:
    done = cluster.kubectl("apply", "--dry-run=server", "-f", str(EXAMPLES / "cronjob-demo.yaml"))
    assert "batch/v1beta1 CronJob is deprecated in v1.21+, unavailable in v1.25+; use batch/v1 CronJob" in done.stderr
