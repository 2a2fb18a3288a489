"""Environment, files, resources, security, volumes: the parts that containers are made from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.durations import parse_duration
from tiphys.base.errors import Permanent
from tiphys.kubelet.admission import admit
from tiphys.kubelet.backoff import next_backoff, restart_delay
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.decide import duration
from tiphys.kubelet.dns import Dns, resolve
from tiphys.kubelet.downward import PodFacts, field_value, resource_value
from tiphys.kubelet.env import ConfigError, make_env, service_links
from tiphys.kubelet.expansion import expand
from tiphys.kubelet.files import hosts_file
from tiphys.kubelet.labels import Record
from tiphys.kubelet.limits import Rules, container_resources, cpu_quota, cpu_shares, pod_resources
from tiphys.kubelet.logdirs import drop_pod_logs
from tiphys.kubelet.probes.counter import Counter
from tiphys.kubelet.resources import qos_class
from tiphys.kubelet.security import security_of, user_of
from tiphys.kubelet.specs import command_line
from tiphys.kubelet.status_patch import status_patch
from tiphys.kubelet.sysctls import forbidden
from tiphys.kubelet.unsupported import container_refusal
from tiphys.kubelet.volumes.atomic import write_payload
from tiphys.kubelet.volumes.hostpath import prepare_host_path
from tiphys.kubelet.volumes.payload import File, VolumeError, clean_path
from tiphys.kubelet.volumes.subpath import prepare_subpath
from tiphys.runtime.types import State


def pod(**spec: Any) -> dict[str, Any]:
    meta = {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web", "q": 'a"b'}}
    return {"metadata": meta, "spec": {"containers": [{"name": "c"}], **spec}}


class Sources:
    def config_map(self, namespace: str, name: str) -> dict[str, Any] | None:
        return {"data": {"a": "1", "b": "2"}} if name == "conf" else None

    def secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        return {"data": {"k": "djE="}} if name == "key" else None


@pytest.mark.parametrize(
    ("text", "result"),
    [("$(A)", "1"), ("$$(A)", "$(A)"), ("$(NO)", "$(NO)"), ("$A", "$A"), ("x$(A)$(A)", "x11"), ("$$$(A)", "$1")],
)
def test_references_are_expanded_as_documented(text: str, result: str) -> None:
    assert expand(text, {"A": "1"}) == result


def test_the_environment_is_built_in_order() -> None:
    container = {
        "name": "c",
        "envFrom": [
            {"prefix": "P_", "configMapRef": {"name": "conf"}},
            {"secretRef": {"name": "no", "optional": True}},
        ],
        "env": [
            {"name": "X", "value": "$(P_a)-$(KUBERNETES_SERVICE_HOST)"},
            {"name": "K", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}},
            {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "z", "optional": True}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
    }
    facts = PodFacts(pod(), pod_ips=("10.0.0.9",))
    env = make_env(facts, container, Sources(), {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    assert env == {
        "P_a": "1",
        "P_b": "2",
        "X": "1-10.96.0.1",
        "K": "v1",
        "IP": "10.0.0.9",
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    }


def test_a_missing_key_is_named() -> None:
    reference = {"configMapKeyRef": {"name": "conf", "key": "z"}}
    with pytest.raises(ConfigError, match="couldn't find key z in ConfigMap shop/conf"):
        make_env(PodFacts(pod()), {"name": "c", "env": [{"name": "Z", "valueFrom": reference}]}, Sources(), {})


def test_services_of_other_namespaces_are_not_linked() -> None:
    service = {
        "metadata": {"name": "my-db", "namespace": "shop"},
        "spec": {"clusterIP": "1.2.3.4", "ports": [{"port": 5}]},
    }
    assert service_links([service], "shop", enabled=True)["MY_DB_SERVICE_HOST"] == "1.2.3.4"
    assert service_links([service], "shop", enabled=False) == {}
    assert service_links([service], "other", enabled=True) == {}


def test_the_downward_api() -> None:
    limits = {"limits": {"cpu": "1500m", "memory": "64Mi"}}
    facts = PodFacts(pod(containers=[{"name": "c", "resources": limits}]), allocatable={"cpu": "4", "memory": "8Gi"})
    container = facts.pod["spec"]["containers"][0]
    assert field_value(facts, "metadata.labels") == 'app="web"\nq="a\\"b"'
    assert field_value(facts, "metadata.labels['app']") == "web"
    assert resource_value(facts, {"resource": "limits.cpu"}, container) == "2"
    assert resource_value(facts, {"resource": "limits.cpu", "divisor": "1m"}, container) == "1500"
    assert resource_value(facts, {"resource": "limits.memory", "divisor": "1Mi"}, container) == "64"
    assert resource_value(facts, {"resource": "limits.cpu"}, {"name": "other"}) == "4"


def test_cgroup_numbers_are_upstreams() -> None:
    assert [cpu_shares(milli) for milli in (0, 1, 100, 1000, 10**9)] == [2, 2, 102, 1024, 262144]
    assert [cpu_quota(milli) for milli in (0, 1, 100, 2000)] == [0, 1000, 10_000, 200_000]
    limits = {"cpu": "100m", "memory": "100Mi"}
    own = pod(containers=[{"name": "c", "resources": {"limits": limits, "requests": {"cpu": "50m", "memory": "50Mi"}}}])
    assert qos_class(own) == "Burstable"
    numbers = container_resources(own, own["spec"]["containers"][0], Rules(1000 * 1024**2))
    assert (numbers.cpu_shares, numbers.cpu_quota, numbers.memory_limit) == (51, 10_000, 100 * 1024**2)
    assert numbers.oom_score_adj == 950
    assert pod_resources(own, Rules(1)).memory_limit == 100 * 1024**2
    assert qos_class(pod()) == "BestEffort"
    assert (
        qos_class(pod(containers=[{"name": "c", "resources": {"limits": limits, "requests": limits}}])) == "Guaranteed"
    )


def test_run_as_non_root_is_verified() -> None:
    strict = pod(securityContext={"runAsNonRoot": True})
    container = strict["spec"]["containers"][0]
    with pytest.raises(ConfigError, match=r'has runAsNonRoot and image will run as root \(pod: "web_shop\(u1\)"'):
        user_of(strict, container, "")
    with pytest.raises(ConfigError, match="image has non-numeric user"):
        user_of(strict, container, "nginx")
    assert user_of(strict, container, "1000") == "1000"
    assert user_of(strict, {**container, "securityContext": {"runAsUser": 5, "runAsGroup": 6}}, "") == "5:6"


def test_commands_replace_the_images() -> None:
    env = {"A": "1"}
    assert command_line({}, ("sh",), ("-c", "x"), env) == ("sh", "-c", "x")
    assert command_line({"args": ["$(A)"]}, ("sh",), ("-c",), env) == ("sh", "1")
    assert command_line({"command": ["ls"]}, ("sh",), ("-c",), env) == ("ls",)
    with pytest.raises(ConfigError):
        command_line({}, (), (), env)


def test_hosts_and_resolver_files() -> None:
    aliases = [{"ip": "1.1.1.1", "hostnames": ["a", "b"]}]
    text = hosts_file(pod(hostAliases=aliases, subdomain="s"), ["10.0.0.9"], "cluster.local", "")
    assert "10.0.0.9\tweb.s.shop.svc.cluster.local\tweb\n" in text
    assert "1.1.1.1\ta\tb\n" in text
    own = {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}
    dns, _ = resolve(pod(dnsPolicy="None", dnsConfig=own), Dns(), [], "x")
    assert dns.text() == "nameserver 1.1.1.1\noptions ndots:2\n"


def test_atomic_volumes_change_all_at_once(tmp_path: Path) -> None:
    root = tmp_path / "v"
    assert write_payload(root, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)}, 0.0)
    assert (root / "a").read_text() == "1"
    assert (root / "d/b").stat().st_mode & 0o777 == 0o600
    first = os.readlink(root / "..data")
    assert not write_payload(root, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)}, 1.0)
    assert write_payload(root, {"a": File(b"3", 0o644)}, 2.0)
    assert (root / "a").read_text() == "3"
    assert not (root / "d").exists()
    assert not (root / first).exists()
    assert sorted(path.name for path in root.iterdir() if not path.name.startswith("..")) == ["a"]


def test_a_subpath_never_leaves_its_volume(tmp_path: Path) -> None:
    volume, secret = tmp_path / "v", tmp_path / "secret"
    volume.mkdir()
    secret.mkdir()
    (volume / "out").symlink_to(secret)
    (volume / "in").symlink_to("real")
    (volume / "real").mkdir()
    assert prepare_subpath(volume, "new/deep", "m", "c") == volume / "new/deep"
    assert prepare_subpath(volume, "in", "m", "c") == volume / "real"
    for bad in ("out", "out/x", "../secret", "/etc"):
        with pytest.raises(VolumeError):
            prepare_subpath(volume, bad, "m", "c")
    assert list(secret.iterdir()) == []


def test_host_paths_are_checked_by_type(tmp_path: Path) -> None:
    assert prepare_host_path({"path": str(tmp_path / "a"), "type": "DirectoryOrCreate"}).is_dir()
    assert prepare_host_path({"path": str(tmp_path / "f"), "type": "FileOrCreate"}).is_file()
    with pytest.raises(VolumeError, match=r"hostPath type check failed: .*/f is not a directory"):
        prepare_host_path({"path": str(tmp_path / "f"), "type": "Directory"})


@pytest.mark.parametrize("path", ["/a", "../a", "a/../b", "..a", ""])
def test_paths_of_items_stay_inside(path: str) -> None:
    with pytest.raises(VolumeError):
        clean_path(path)


def test_back_off_starts_over_after_ten_good_minutes() -> None:
    ended = Record("i", "c", 5, State.EXITED, "b", backoff=160, created_at=0, finished_at=601)
    assert restart_delay(ended) == 0
    assert next_backoff(ended) == 10
    assert next_backoff(Record("i", "c", 5, State.EXITED, "b", backoff=160)) == 300
    assert [duration(value) for value in (10, 80, 300, 3600)] == ["10s", "1m20s", "5m0s", "1h0m0s"]


def test_probe_results_count_in_a_row() -> None:
    counter = Counter(success_threshold=1, failure_threshold=3, verdict=True)
    assert [counter.add(one) for one in (False, False, True, False, False, False, False, True)] == [
        *(False, False, False, False, False, True),
        *(False, True),
    ]


def test_a_status_patch_says_only_what_differs() -> None:
    old = {"phase": "Pending", "reason": "x", "conditions": [{"type": "Ready", "status": "False", "message": "m"}]}
    new = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "podIPs": [{"ip": "1"}]}
    assert status_patch(old, new) == {
        "phase": "Running",
        "reason": None,
        "conditions": [{"message": None, "type": "Ready", "status": "True"}],
        "podIPs": [{"ip": "1"}],
    }
    assert status_patch(new, {**new, "podIPs": [{"ip": "2"}]}) == {
        "podIPs": [{"$patch": "delete", "ip": "1"}, {"ip": "2"}]
    }
    assert status_patch(new, new) == {}


def test_admission_checks_taints_ports_and_affinity() -> None:
    node = {"metadata": {"name": "n", "labels": {"disk": "ssd"}}, "spec": {}, "status": {"allocatable": {"pods": "1"}}}
    assert admit(pod(nodeSelector={"disk": "ssd"}), node, []) is None
    assert admit(pod(), node, [pod()]) == (
        "OutOfpods",
        "Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1",
    )
    tainted = {**node, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}
    refusal = admit(pod(), tainted, [])
    assert refusal is not None
    assert refusal[0] == "TaintToleration"
    assert admit(pod(tolerations=[{"operator": "Exists"}]), tainted, []) is None


def test_durations() -> None:
    assert parse_duration("1m30s") == 90
    assert parse_duration("300ms") == 0.3
    with pytest.raises(Permanent):
        parse_duration("5 minutes")


def test_the_default_seccomp_profile_holds_unless_a_pod_asks_otherwise() -> None:
    def seccomp(context: dict[str, Any], default: bool = True) -> str:
        container = {"name": "c", "securityContext": context}
        return security_of(pod(containers=[container]), container, "/profiles", default).seccomp

    assert seccomp({}) == "default"
    assert seccomp({}, default=False) == "unconfined"
    assert seccomp({"privileged": True}) == "unconfined"
    assert seccomp({"seccompProfile": {"type": "Unconfined"}}) == "unconfined"
    assert seccomp({"seccompProfile": {"type": "RuntimeDefault"}}, default=False) == "default"
    assert seccomp({"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}) == "/profiles/p.json"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, ""),
        ({"sysctls": [{"name": "kernel/shm_rmid_forced", "value": "1"}]}, ""),
        ({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}, 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        ({"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}, ""),
    ],
)
def test_unsafe_sysctls_are_refused_unless_the_node_allows_them(spec: dict[str, Any], reason: str) -> None:
    assert forbidden(pod(securityContext=spec), ["net.core.*"]) == reason


def test_sysctls_of_a_namespace_shared_with_the_host_are_refused() -> None:
    context = {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}
    why = 'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled'
    assert forbidden(pod(securityContext=context, hostNetwork=True)) == why


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"securityContext": {"seLinuxOptions": {"level": "s0"}}}, "securityContext.seLinuxOptions"),
    ],
)
def test_what_a_node_cannot_do_is_refused_with_the_fields_name(container: dict[str, Any], field: str) -> None:
    refusal = container_refusal(pod(), {"name": "c", **container}, selinux=True)
    assert refusal.startswith(f"{field}: ")
    assert "not supported" in refusal


def test_overhead_counts_for_admission_and_cgroups() -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}
    heavy = pod(containers=[{"name": "c", "resources": resources}], overhead={"cpu": "50m", "memory": "16Mi"})
    found = pod_resources(heavy, Rules(1))
    assert found.cpu_shares == cpu_shares(150)
    assert found.memory_limit == 80 << 20


def test_apparmor_is_refused_where_the_kernel_lacks_it() -> None:
    asks = pod(securityContext={"appArmorProfile": {"type": "RuntimeDefault"}})
    node: dict[str, Any] = {"metadata": {}, "spec": {}, "status": {}}
    assert admit(asks, node, []) == ("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    assert admit(asks, node, [], apparmor=True) is None


def test_a_pods_logs_go_with_the_links_that_lead_to_them(tmp_path: Path) -> None:
    config = KubeletConfig("n1", tmp_path, log_dir=tmp_path / "pods", container_log_dir=tmp_path / "containers")
    tmp_path.joinpath("containers").mkdir()
    for uid in ("old", "new"):
        log = config.container_log("shop", "web", uid, "c", 0)
        log.parent.mkdir(parents=True)
        log.touch()
        (tmp_path / "containers" / f"web_shop_c-{uid}.log").symlink_to(log)
    drop_pod_logs(config, config.pod_log_dir("shop", "web", "old"))
    assert os.listdir(tmp_path / "pods") == ["shop_web_new"]
    assert os.listdir(tmp_path / "containers") == ["web_shop_c-new.log"]
