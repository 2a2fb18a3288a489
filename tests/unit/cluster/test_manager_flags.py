"""The controller manager's command line: upstream's flags set what they set there, or are refused by name."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.cluster.manager_component import add_flags, health_config, manager_config
from tiphys.cluster.manager_flags import controller_settings


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    return parser.parse_args(words)


def test_defaults_are_upstreams() -> None:
    options = parse()
    settings = controller_settings(options)
    assert settings["node-monitor-grace-period"] == 50
    assert settings["terminated-pod-gc-threshold"] == 12500
    assert settings["workers"] == {}
    config = manager_config(options)
    assert (config.leader_elect, config.lease, config.lease_namespace) == (
        True,
        "kube-controller-manager",
        "kube-system",
    )
    assert (config.lease_seconds, config.renew_seconds, config.retry_seconds) == (15, 10, 2)
    assert health_config(options).port is None


def test_flags_become_settings() -> None:
    options = parse(
        "--node-monitor-grace-period=1m30s",
        "--horizontal-pod-autoscaler-tolerance",
        "0.2",
        "--concurrent-job-syncs=7",
        "--leader-elect-lease-duration=30s",
        "--leader-elect=false",
        "--enable-dynamic-provisioning=false",
        "--secure-port=0",
    )
    settings = controller_settings(options)
    assert settings["node-monitor-grace-period"] == 90
    assert settings["horizontal-pod-autoscaler-tolerance"] == 0.2
    assert settings["enable-dynamic-provisioning"] is False
    assert settings["workers"] == {"job-controller": 7}
    config = manager_config(options)
    assert (config.leader_elect, config.lease_seconds) == (False, 30)
    assert health_config(options).port == 0


def test_what_means_nothing_here_is_taken() -> None:
    words = ["--kube-api-qps=300", "--kube-api-burst=400", "--profiling=false", "--min-resync-period=1h"]
    assert controller_settings(parse(*words, "--use-service-account-credentials=false"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--enable-leader-migration"], "--enable-leader-migration=true is not supported"),
        (["--cloud-provider=external"], "--cloud-provider=external is not supported"),
        (["--feature-gates=GenericWorkload=true"], "GenericWorkload is false and cannot be changed"),
        (["--feature-gates=Nonsense=true"], "Nonsense is no feature"),
        (["--feature-gates=Nonsense"], "is not NAME=true or NAME=false"),
        (["--enable-garbage-collector=false"], "--enable-garbage-collector=false is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(words: list[str], message: str) -> None:
    with pytest.raises(Permanent, match=message):
        controller_settings(parse(*words))


@pytest.mark.parametrize("gates", ["GenericWorkload=false", "AllAlpha=false,kube:DRADeviceTaints=true"])
def test_features_may_be_set_to_what_they_are(gates: str) -> None:
    assert controller_settings(parse(f"--feature-gates={gates}"))


@pytest.mark.parametrize(
    "word",
    ["--node-monitor-grace-period=soon", "--concurrent-job-syncs=-1", "--leader-elect=maybe", "--secure-port=x"],
)
def test_values_that_are_none_are_refused(word: str) -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parse(word)


def test_an_unknown_flag_is_an_error(capsys: Any) -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parse("--concurrent-nonsense-syncs=5")
