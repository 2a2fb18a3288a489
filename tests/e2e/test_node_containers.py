"""What containers see of the node: users, confinement, environment, files, volumes. One pod a case, all at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.commands import Commands
from tiphys.kubelet import userns

pytestmark = pytest.mark.e2e

NAMESPACE = "node-containers"
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "1", "b": "2"}}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"k": "hidden"}}
LIMITS = {"requests": {"cpu": "500m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}


def pod(name: str, script: str, container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    main = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    whole = {"restartPolicy": "Never", "containers": [main | (container or {})], **spec}
    metadata = {"name": name, "labels": {"app": "web"}, "annotations": {"example.com/note": "hello"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}


def volume(name: str, script: str, source: dict[str, Any], mount: dict[str, Any] | None = None, **spec: Any) -> Any:
    mounts = [{"name": "v", "mountPath": "/v", **(mount or {})}]
    return pod(name, script, {"volumeMounts": mounts}, volumes=[{"name": "v", **source}], **spec)


def field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def size(name: str, resource: str, divisor: str = "1") -> dict[str, Any]:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}}


def secured(**context: Any) -> dict[str, Any]:
    return {"securityContext": context}


PRINTED = [
    (pod("seccomp", "grep Seccomp: /proc/self/status"), "Seccomp:\t2"),
    (pod("seccomp-privileged", "grep Seccomp: /proc/self/status", secured(privileged=True)), "Seccomp:\t0"),
    (
        pod("seccomp-off", "grep Seccomp: /proc/self/status", **secured(seccompProfile={"type": "Unconfined"})),
        "Seccomp:\t0",
    ),
    (pod("user", "id -u; id -g; id -G", secured(runAsUser=1001, runAsGroup=2002)), "1001\n2002\n2002"),
    (pod("groups", "id -G", **secured(runAsUser=1, runAsGroup=5, fsGroup=7, supplementalGroups=[6])), "5 6 7"),
    (
        pod("no-new-privileges", "grep NoNew /proc/self/status", secured(allowPrivilegeEscalation=False)),
        "NoNewPrivs:\t1",
    ),
    (
        pod("capabilities", "grep CapEff /proc/self/status", secured(capabilities={"drop": ["ALL"], "add": ["CHOWN"]})),
        "CapEff:\t0000000000000001",
    ),
    (pod("read-only", "touch /x 2>/dev/null || echo refused", secured(readOnlyRootFilesystem=True)), "refused"),
    (
        pod(
            "sysctl",
            "cat /proc/sys/kernel/shm_rmid_forced",
            **secured(sysctls=[{"name": "kernel.shm_rmid_forced", "value": "1"}]),
        ),
        "1",
    ),
    (
        pod(
            "expansion",
            "",
            {
                "command": ["echo", "$(A)", "$(B)", "$$(A)", "$(NO)"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}],
            },
        ),
        "1 12 $(A) $(NO)",
    ),
    (pod("arguments", "", {"command": ["echo"], "args": ["x", "y"]}), "x y"),
    (
        pod(
            "env-from",
            "echo $a $P_b $S",
            {
                "envFrom": [{"configMapRef": {"name": "conf"}}, {"prefix": "P_", "configMapRef": {"name": "conf"}}],
                "env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}],
            },
        ),
        "1 2 hidden",
    ),
    (
        pod(
            "downward",
            "echo $NAME $SPACE $ACCOUNT $LABEL $NOTE",
            {
                "env": [
                    field("NAME", "metadata.name"),
                    field("SPACE", "metadata.namespace"),
                    field("ACCOUNT", "spec.serviceAccountName"),
                    field("LABEL", "metadata.labels['app']"),
                    field("NOTE", "metadata.annotations['example.com/note']"),
                ]
            },
        ),
        f"downward {NAMESPACE} default web hello",
    ),
    (
        pod(
            "sizes",
            "echo $CPU $MILLI $MEMORY",
            {
                "resources": LIMITS,
                "env": [
                    size("CPU", "limits.cpu"),
                    size("MILLI", "requests.cpu", "1m"),
                    size("MEMORY", "limits.memory", "1Mi"),
                ],
            },
        ),
        "2 500 64",
    ),
    (
        pod("names", "hostname; tail -1 /etc/hosts | cut -f2-", hostname="me", subdomain="sub"),
        f"me\nme.sub.{NAMESPACE}.svc.cluster.local\tme",
    ),
    (
        pod("aliases", "grep foo /etc/hosts", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["foo", "bar"]}]),
        "1.2.3.4\tfoo\tbar",
    ),
    (
        pod(
            "dns",
            "cat /etc/resolv.conf",
            dnsPolicy="None",
            dnsConfig={"nameservers": ["1.1.1.1"], "searches": ["x.y"], "options": [{"name": "ndots", "value": "2"}]},
        ),
        "search x.y\nnameserver 1.1.1.1\noptions ndots:2",
    ),
    (
        volume("config-map", "cat /v/a; stat -L -c %a /v/a", {"configMap": {"name": "conf", "defaultMode": 0o400}}),
        "1400",
    ),
    (
        volume(
            "config-map-items",
            "cat /v/x/y; ls /v",
            {"configMap": {"name": "conf", "items": [{"key": "b", "path": "x/y"}]}},
        ),
        "2x",
    ),
    (volume("config-map-optional", "ls /v | wc -l", {"configMap": {"name": "none", "optional": True}}), "0"),
    (
        volume("config-map-written", "(echo x > /v/a) 2>/dev/null || echo refused", {"configMap": {"name": "conf"}}),
        "refused",
    ),
    (
        volume(
            "secret",
            "cat /v/k; stat -L -c ' %a %g' /v/k",
            {"secret": {"secretName": "key", "defaultMode": 0o440}},
            **secured(runAsUser=1000, fsGroup=1001),
        ),
        "hidden 440 1001",
    ),
    (
        volume(
            "projected",
            "cat /v/a /v/k /v/labels; test -s /v/token && echo && echo token",
            {
                "projected": {
                    "sources": [
                        {"configMap": {"name": "conf"}},
                        {"secret": {"name": "key"}},
                        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                        {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}},
                    ]
                }
            },
        ),
        '1hiddenapp="web"\ntoken',
    ),
    (volume("empty-dir", "stat -c %a /v; touch /v/x; id -u", {"emptyDir": {}}, **secured(runAsUser=1000)), "777\n1000"),
    (
        volume(
            "memory", "df -m /v | tail -1 | awk '{print $2}'", {"emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}
        ),
        "8",
    ),
    (volume("sub-path", "cat /v", {"configMap": {"name": "conf"}}, {"subPath": "a"}), "1"),
    (
        pod(
            "sidecar",
            "test -f /s/up && echo together",
            {"volumeMounts": [{"name": "s", "mountPath": "/s"}]},
            volumes=[{"name": "s", "emptyDir": {}}],
            initContainers=[
                {
                    "name": "s",
                    "image": "busybox",
                    "imagePullPolicy": "IfNotPresent",
                    "restartPolicy": "Always",
                    "command": ["sh", "-c", "touch /s/up; sleep 3600"],
                    "volumeMounts": [{"name": "s", "mountPath": "/s"}],
                    "startupProbe": {"exec": {"command": ["test", "-f", "/s/up"]}, "periodSeconds": 1},
                }
            ],
            terminationGracePeriodSeconds=1,
        ),
        "together",
    ),
]

PRINTED.append((pod("terminal", "test -t 0 && echo $TERM", {"tty": True, "stdin": True}), "xterm"))
SHARED = "tr '\\0' '\\n' < /proc/1/cmdline"
PRINTED.append((pod("shared", SHARED, shareProcessNamespace=True), "/pause"))

MAPPED = [
    (pod("mapped", "id -u; awk '{ print $1, ($2 > 0), $3 }' /proc/self/uid_map", hostUsers=False), "0\n0 1 65536"),
    (
        volume(
            "mapped-secret",
            "stat -L -c '%u:%g' /v/k /etc/hosts /; id -G",
            {"secret": {"secretName": "key"}},
            hostUsers=False,
            **secured(runAsUser=1000, fsGroup=2000),
        ),
        "0:2000\n0:0\n0:0\n0 2000",
    ),
    (
        volume("mapped-memory", "touch /v/x; stat -c %u /v/x", {"emptyDir": {"medium": "Memory"}}, hostUsers=False),
        "0",
    ),
    (
        pod("unmasked", "mount | grep -c ' /proc'; ls /proc/keys", secured(procMount="Unmasked"), hostUsers=False),
        "1\n/proc/keys",
    ),
    (
        pod(
            "mapped-admin",
            "mount -t tmpfs x /tmp && echo mounted; hostname other; hostname",
            secured(privileged=True),
            hostUsers=False,
        ),
        "mounted\nother",
    ),
]
"""Pods with user namespaces of their own."""
if userns.supported():
    PRINTED += MAPPED

REFUSED = [
    (
        pod("no-profile", "true", secured(seccompProfile={"type": "Localhost", "localhostProfile": "none.json"})),
        "cannot load seccomp profile",
    ),
    (pod("unsafe-sysctl", "true", **secured(sysctls=[{"name": "kernel.msgmax", "value": "1"}])), "SysctlForbidden"),
    (pod("root", "true", secured(runAsNonRoot=True)), "CreateContainerConfigError"),
    (pod("no-config-map", "true", {"envFrom": [{"configMapRef": {"name": "none"}}]}), "CreateContainerConfigError"),
    (pod("never-pulled", "true", {"image": "none:1", "imagePullPolicy": "Never"}), "ErrImageNeverPull"),
    (
        volume("iscsi", "true", {"iscsi": {"targetPortal": "1.2.3.4", "iqn": "iqn.2001-04.com.example:s", "lun": 0}}),
        "volumes of type iscsi are not supported",
    ),
    (volume("not-there", "true", {"hostPath": {"path": "/none/at/all", "type": "Directory"}}), "is not a directory"),
]

if userns.supported():
    REFUSED.append((volume("not-mapped", "true", {"hostPath": {"path": "/sys"}}, hostUsers=False), "MOUNT_ATTR_IDMAP"))

ENDED = [
    (pod("message", "printf said > /dev/termination-log"), ("Completed", 0, "said")),
    (
        pod("from-log", "printf said; exit 3", {"terminationMessagePolicy": "FallbackToLogsOnError"}),
        ("Error", 3, "said"),
    ),
    (
        pod("own-path", "printf said > /tmp/note", {"terminationMessagePath": "/tmp/note", **secured(runAsUser=1000)}),
        ("Completed", 0, "said"),
    ),
    (pod("no-program", "", {"command": ["/nope"]}), ("StartError", 127, None)),
    (
        pod("too-big", "head -c 200m /dev/zero | tail", {"resources": {"limits": {"memory": "24Mi"}}}),
        ("OOMKilled", None, None),
    ),
]


@pytest.fixture(scope="module")
def pods(cluster: Commands) -> Commands:
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("-n", NAMESPACE, "wait", "serviceaccount/default", "--for=create", "--timeout=30s")
    items = [CONFIG, SECRET, *(manifest for manifest, _ in [*PRINTED, *REFUSED, *ENDED])]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("-n", NAMESPACE, "create", "-f", "-", stdin=text)
    return cluster


def cases(table: list[tuple[dict[str, Any], Any]]) -> list[Any]:
    return [pytest.param(case["metadata"]["name"], wanted, id=case["metadata"]["name"]) for case, wanted in table]


@pytest.mark.parametrize(("name", "text"), cases(PRINTED))
def test_a_container_finds_what_its_pod_asks_for(pods: Commands, name: str, text: str) -> None:
    pods.kubectl("-n", NAMESPACE, "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    assert pods.out("-n", NAMESPACE, "logs", name, "-c", "c") == text


@pytest.mark.parametrize(("name", "word"), cases(REFUSED))
def test_what_cannot_be_is_said(pods: Commands, name: str, word: str) -> None:
    def said() -> str:
        status = pods.get("-n", NAMESPACE, "pod", name)["status"]
        return json.dumps(status) + pods.out("-n", NAMESPACE, "events", "--for", f"pod/{name}")

    pods.until(lambda: word in said())


@pytest.mark.parametrize(("name", "end"), cases(ENDED))
def test_how_a_container_ended_is_in_its_status(pods: Commands, name: str, end: tuple[Any, ...]) -> None:
    def state() -> dict[str, Any]:
        found = pods.get("-n", NAMESPACE, "pod", name)["status"].get("containerStatuses") or [{"state": {}}]
        return dict(found[0]["state"].get("terminated") or {})

    pods.until(state)
    reason, code, message = end
    assert state()["reason"] == reason
    assert code in (None, state()["exitCode"])
    assert message in (None, state().get("message"))
