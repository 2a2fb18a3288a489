"""The kubelet's configuration file, its drop-ins and its flags."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiphys.base.durations import format_duration
from tiphys.base.errors import Permanent
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile.document import load, merged
from tiphys.kubelet.configfile.fields import FIELDS
from tiphys.kubelet.configfile.flags import check_labels
from tiphys.kubelet.configfile.reader import read_config
from tiphys.kubelet.configfile.validation import check
from tiphys.kubelet.serve import add_flags, make_config
from tiphys.kubelet.server import settings
from tiphys.kubelet.server.configz import configz


def write(file: Path, **document: Any) -> Path:
    head = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
    file.write_text(yaml.safe_dump({**head, **document}))
    return file


def configured(*arguments: str) -> KubeletConfig:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return make_config(parser.parse_args([*arguments, "--node-name", "n", "--node-ip", "10.0.0.1"]))


def test_every_field_goes_where_it_belongs() -> None:
    names = [name for name, _ in FIELDS.values()]
    assert set(names) <= set(KubeletConfig.__dataclass_fields__)
    assert len(set(names)) == len(names)


def test_a_file_is_read(tmp_path: Path) -> None:
    file = write(
        tmp_path / "kubelet.yaml",
        evictionHard={"memory.available": "1Gi"},
        evictionSoft={"nodefs.available": "20%"},
        evictionSoftGracePeriod={"nodefs.available": "1m"},
        evictionPressureTransitionPeriod="30s",
        shutdownGracePeriodByPodPriority=[{"priority": 5, "shutdownGracePeriodSeconds": 7}],
        authentication={"x509": {"clientCAFile": "/ca.crt"}, "anonymous": {"enabled": False}},
        imageMinimumGCAge="0s",
    )
    found = read_config(file)
    assert found["eviction_hard"] == {"memory.available": "1Gi"}
    assert found["eviction_transition"] == 30
    assert found["shutdown_grace_by_priority"] == ((5, 7),)
    assert found["client_ca"] == Path("/ca.crt")
    assert "image_minimum_age" not in found


def test_defaults_of_eviction_are_merged_when_that_is_asked_for(tmp_path: Path) -> None:
    given = {"evictionHard": {"memory.available": "1Gi"}, "mergeDefaultEvictionSettings": True}
    found = read_config(write(tmp_path / "k.yaml", **given))
    assert found["eviction_hard"]["memory.available"] == "1Gi"
    assert found["eviction_hard"]["nodefs.available"] == "10%"


def test_what_has_no_effect_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read_config(write(tmp_path / "k.yaml", podsPerCore=3, authorization={"mode": "Webhook"}))
    assert "no effect: podsPerCore" in caplog.text
    assert found["extra"] == {"podsPerCore": 3, "authorization": {"mode": "Webhook"}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"maxPods": "many"}, "KubeletConfiguration.maxPods: cannot unmarshal string into an integer"),
        ({"registerNode": 1}, "KubeletConfiguration.registerNode: cannot unmarshal number into a boolean"),
        ({"evictionHard": ["x"]}, "KubeletConfiguration.evictionHard: cannot unmarshal array into a map of strings"),
        ({"evictionPressureTransitionPeriod": "soon"}, "is not a duration"),
    ],
)
def test_values_of_a_wrong_type_are_refused_with_their_field(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(Permanent) as caught:
        read_config(write(tmp_path / "k.yaml", **document))
    assert message in str(caught.value)


def test_another_kind_or_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("kind: Pod")
    with pytest.raises(Permanent, match="is not a KubeletConfiguration"):
        load(tmp_path / "a")
    (tmp_path / "b").write_text("kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v9")
    with pytest.raises(Permanent, match=r"for version .kubelet\.config\.k8s\.io/v9"):
        load(tmp_path / "b")


def test_drop_ins_are_merged_in_the_order_of_their_names(tmp_path: Path) -> None:
    base = write(tmp_path / "kubelet.yaml", maxPods=10, evictionHard={"memory.available": "1Gi"}, clusterDNS=["a"])
    drop_ins = tmp_path / "conf.d"
    drop_ins.mkdir()
    write(drop_ins / "20.conf", maxPods=30, clusterDNS=["b", "c"])
    write(drop_ins / "10.conf", maxPods=20, evictionHard={"nodefs.available": "5%"})
    write(drop_ins / "99.yaml", maxPods=99)
    found = load(base, drop_ins)
    assert found["maxPods"] == 30
    assert found["clusterDNS"] == ["b", "c"]
    assert found["evictionHard"] == {"memory.available": "1Gi", "nodefs.available": "5%"}


def test_a_null_removes() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None}, "d": None}) == {"a": {"c": 2}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"maxPods": -1}, "maxPods (--max-pods) -1 must not be a negative number"),
        ({"port": 0}, "port (--port) 0 must be between 1 and 65535, inclusive"),
        ({"nodeLeaseDurationSeconds": 0}, "nodeLeaseDurationSeconds must be greater than 0"),
        ({"nodeStatusMaxImages": -2}, "nodeStatusMaxImages (--node-status-max-images) -2 must be -1 or greater"),
        (
            {"imageGCHighThresholdPercent": 101},
            "imageGCHighThresholdPercent (--image-gc-high-threshold) 101 must be between 0 and 100, inclusive",
        ),
        (
            {"imageGCHighThresholdPercent": 50, "imageGCLowThresholdPercent": 50},
            "imageGCLowThresholdPercent (--image-gc-low-threshold) 50 must be less than "
            "imageGCHighThresholdPercent (--image-gc-high-threshold) 50",
        ),
        (
            {"imageMaximumGCAge": "1s", "imageMinimumGCAge": "2s"},
            "imageMaximumGCAge 1s must be greater than imageMinimumGCAge 2s",
        ),
        (
            {"shutdownGracePeriod": "1s", "shutdownGracePeriodCriticalPods": "2s"},
            "shutdownGracePeriodCriticalPods {2s} must be <= shutdownGracePeriod {1s}",
        ),
        (
            {"shutdownGracePeriod": "40ms"},
            "shutdownGracePeriod {40ms} must be either zero or otherwise >= 1 sec",
        ),
        (
            {"shutdownGracePeriod": "10s", "shutdownGracePeriodByPodPriority": [{"priority": 0}]},
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time",
        ),
        (
            {"enforceNodeAllocatable": ["pods", "pods"]},
            'duplicated enforcements "pods" in enforceNodeAllocatable (--enforce-node-allocatable)',
        ),
        (
            {"topologyManagerScope": "invalid"},
            'topologyManagerScope (--topology-manager-scope) "invalid" must be one of: "container", or "pod"',
        ),
        ({"podLogsDir": "logs"}, 'pod logs path "logs" must be absolute path'),
        ({"podLogsDir": "/a/../b"}, 'pod logs path "/a/../b" must be normalized'),
        (
            {"crashLoopBackOff": {"maxContainerRestartPeriod": "301s"}},
            "CrashLoopBackOff.MaxContainerRestartPeriod (got: 301 seconds) must be set between 1s and 300s",
        ),
    ],
)
def test_what_is_not_valid_is_refused_in_upstreams_words(document: dict[str, Any], message: str) -> None:
    assert check(document) == [f"invalid configuration: {message}"]


def test_the_defaults_are_valid() -> None:
    assert check({}) == []


def test_flags_come_before_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "k.yaml", maxPods=20, imageGCHighThresholdPercent=70, imageGCLowThresholdPercent=60)
    config = configured(
        *(
            "--config",
            str(file),
            "--image-gc-high-threshold=90",
            "--eviction-hard=memory.available<5%,nodefs.available<1Gi",
        ),
        *("--eviction-minimum-reclaim", "memory.available=10Mi", "--kernel-memcg-notification"),
        *("--eviction-pressure-transition-period=1m", "--provider-id=cloud://1", "--register-schedulable=false"),
    )
    assert (config.max_pods, config.image_gc_high, config.image_gc_low) == (20, 90, 60)
    assert config.eviction_hard == {"memory.available": "5%", "nodefs.available": "1Gi"}
    assert config.eviction_minimum_reclaim == {"memory.available": "10Mi"}
    assert (config.memcg_notification, config.eviction_transition) == (True, 60)
    assert (config.provider_id, config.register_schedulable) == ("cloud://1", False)


def test_flags_of_eviction_are_checked() -> None:
    with pytest.raises(Permanent, match=r"unsupported eviction signal memory\.foo"):
        configured("--eviction-hard=memory.foo<5%")


def test_labels_of_kubernetes_own_are_limited() -> None:
    check_labels({"node.kubernetes.io/role": "x", "kubernetes.io/os": "linux", "example.com/a": "b"})
    with pytest.raises(Permanent) as caught:
        configured("--node-labels", "node-role.kubernetes.io/worker=,a=b")
    assert str(caught.value).startswith(
        "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [node-role.kubernetes.io/worker]\n"
        "--node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix "
        "(kubelet.kubernetes.io, node.kubernetes.io) or be in the specifically allowed set (beta.kubernetes.io/arch, "
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (0.3, "300ms"), (10, "10s"), (80, "1m20s"), (300, "5m0s"), (86400, "24h0m0s"), (-30, "-30s")],
)
def test_durations_are_printed_as_go_does(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


def test_what_is_read_is_shown_by_configz(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "evictionHard": {"memory.available": "1Gi"},
        "evictionPressureTransitionPeriod": "30s",
        "shutdownGracePeriodByPodPriority": [{"priority": 5, "shutdownGracePeriodSeconds": 7}],
        "topologyManagerScope": "pod",
        "memorySwap": {"swapBehavior": "LimitedSwap"},
        "readOnlyPort": 10255,
    }
    config = configured("--config", str(write(tmp_path / "k.yaml", **given)))
    shown = configz(config, settings.of(config.extra))["kubeletconfig"]
    assert {name: shown[name] for name in given} == given
    assert shown["imageMinimumGCAge"] == "2m0s"
    assert shown["podPidsLimit"] == -1
    assert shown["nodeStatusUpdateFrequency"] == "10s"
