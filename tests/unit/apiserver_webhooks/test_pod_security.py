"""Pod Security Standards: levels and versions, the checks' words, labels of namespaces."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.apiserver.admission.podsecurity.configuration import read
from tiphys.apiserver.admission.podsecurity.levels import EVERYTHING, LATEST, LevelVersion, policy_of
from tiphys.apiserver.admission.podsecurity.standards import violations
from tiphys.base.errors import Permanent

PREFIX = "pod-security.kubernetes.io/"
GOOD = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(security: Any = None, *, spec: Any = None, **container: Any) -> dict[str, Any]:
    one = {"name": "c", "image": "nginx", **container}
    if security is not None:
        one["securityContext"] = security
    return {"containers": [one], **(spec or {})}


def found(level: str, spec: dict[str, Any], minor: int = LATEST, annotations: Any = None) -> str:
    return ", ".join(map(str, violations(LevelVersion(level, minor), {"annotations": annotations or {}}, spec)))


def test_an_ordinary_pod_keeps_to_baseline_but_not_to_restricted() -> None:
    assert found("privileged", pod({"privileged": True})) == ""
    assert found("baseline", pod()) == ""
    assert found("restricted", pod()) == (
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")'
    )
    assert found("restricted", pod(GOOD)) == ""


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (pod(spec={"hostNetwork": True, "hostPID": True}), "host namespaces (hostNetwork=true, hostPID=true)"),
        (pod({"privileged": True}), 'privileged (container "c" must not set securityContext.privileged=true)'),
        (pod(ports=[{"hostPort": 80}, {"hostPort": 8080}]), 'hostPort (container "c" uses hostPorts 80, 8080)'),
        (pod(spec={"volumes": [{"name": "v", "hostPath": {}}]}), 'hostPath volumes (volume "v")'),
        (
            pod({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}),
            'non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add)',
        ),
        (
            pod({"procMount": "Unmasked"}),
            'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            pod({"seccompProfile": {"type": "Unconfined"}}),
            'seccompProfile (container "c" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            pod(spec={"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}}}),
            'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "x"; user may not be set)',
        ),
        (
            pod(spec={"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            pod({"appArmorProfile": {"type": "Unconfined"}}),
            'forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")',
        ),
        (
            pod({"windowsOptions": {"hostProcess": True}}),
            'hostProcess (container "c" must not set securityContext.windowsOptions.hostProcess=true)',
        ),
        (
            pod(livenessProbe={"httpGet": {"host": "a"}}),
            'probe or lifecycle host (container "c" uses probe or lifecycle host "a")',
        ),
    ],
)
def test_what_baseline_forbids(spec: dict[str, Any], text: str) -> None:
    assert found("baseline", spec) == text


def test_versions_differ() -> None:
    assert found("baseline", pod(livenessProbe={"httpGet": {"host": "a"}}), 33) == ""
    keepalive = pod(spec={"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_keepalive_time"}]}})
    assert found("baseline", keepalive, 28) == "forbidden sysctls (net.ipv4.tcp_keepalive_time)"
    assert found("baseline", keepalive, 29) == ""
    assert "capabilities" not in found("restricted", pod(), 21)
    windows = pod(spec={"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": True}})
    assert found("restricted", windows, 25) == ""
    assert found("restricted", windows, 24) != ""
    own_users = pod({**GOOD, "runAsNonRoot": False, "runAsUser": 0}, spec={"hostUsers": False})
    assert found("restricted", own_users) == ""
    assert found("restricted", own_users, 34).startswith("runAsNonRoot != true")


def test_volumes_of_the_restricted_level() -> None:
    volumes = [{"name": "a", "nfs": {}}, {"name": "b", "hostPath": {}}, {"name": "c", "emptyDir": {}}]
    assert found("restricted", pod(GOOD, spec={"volumes": volumes})) == (
        'restricted volume types (volumes "a", "b" use restricted volume types "hostPath", "nfs")'
    )


def test_labels_of_a_namespace() -> None:
    labels = {f"{PREFIX}enforce": "baseline", f"{PREFIX}enforce-version": "v1.25", f"{PREFIX}audit": "restricted"}
    policy, problems = policy_of(labels, EVERYTHING)
    assert problems == []
    assert (str(policy.enforce), str(policy.audit)) == ("baseline:v1.25", "restricted:latest")
    assert str(policy.warn) == "baseline:v1.25", "warnings follow what is enforced"
    policy, problems = policy_of({f"{PREFIX}enforce": "strict", f"{PREFIX}warn-version": "1.2"}, EVERYTHING)
    assert str(policy.enforce) == "restricted:latest"
    assert [str(problem) for problem in problems] == [
        'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, '
        "baseline, restricted",
        'metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "1.2": must be "latest" or "v1.x"',
    ]


def test_the_configuration_is_read_strictly() -> None:
    struct: dict[str, Any] = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": "baseline"},
        "exemptions": {"namespaces": ["kube-system"]},
    }
    assert str(read(struct).defaults.enforce) == "baseline:latest"
    with pytest.raises(Permanent, match=r"defaults\.enforce: Invalid value"):
        read({**struct, "defaults": {"enforce": "x"}})
    with pytest.raises(Permanent, match=r"unknown field .defaults\.enfroce."):
        read({**struct, "defaults": {"enfroce": "x"}})
    with pytest.raises(Permanent, match="Duplicate value"):
        read({**struct, "exemptions": {"usernames": ["a", "a"]}})
