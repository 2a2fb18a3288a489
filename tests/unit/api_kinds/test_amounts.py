"""Amounts of resources are kept in thousandths."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.kinds.amounts import round_up
from tiphys.api.kinds.core.limitrange import LimitRange
from tiphys.api.kinds.core.persistentvolume import PersistentVolume
from tiphys.api.kinds.core.pod import Pod
from tiphys.api.kinds.core.resourcequota import ResourceQuota


@pytest.mark.parametrize(
    ("text", "kept"),
    [("1n", "1m"), ("1500u", "2m"), ("1001u", "2m"), ("-1n", "-1m"), ("1e-5", "1e-3"), ("1Gi", "1Gi"), ("3m", "3m")],
)
def test_what_is_finer_than_a_thousandth_is_rounded_up(text: str, kept: str) -> None:
    struct: dict[str, Any] = {"hard": {"cpu": text}}
    round_up(struct, "hard", "used")
    assert struct == {"hard": {"cpu": kept}}


def test_kinds_round_their_amounts() -> None:
    quota: dict[str, Any] = {"spec": {"hard": {"cpu": "1n"}}}
    ResourceQuota().default(quota, "v1")
    assert quota["spec"]["hard"]["cpu"] == "1m"
    limits: dict[str, Any] = {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1u"}}]}}
    LimitRange().default(limits, "v1")
    assert limits["spec"]["limits"][0]["max"]["cpu"] == "1m"
    volume: dict[str, Any] = {"spec": {"capacity": {"storage": "1n"}}}
    PersistentVolume().default(volume, "v1")
    assert volume["spec"]["capacity"]["storage"] == "1m"


def test_features_that_are_off_leave_nothing_in_a_pod() -> None:
    sources = [{"clusterTrustBundle": {"path": "p"}}, {"podCertificate": {"keyType": "x"}}]
    spec: dict[str, Any] = {
        "volumes": [{"name": "v", "projected": {"sources": sources}}],
        "containers": [{"name": "c", "lifecycle": {"stopSignal": "SIGUSR1"}, "resources": {"limits": {"cpu": "1n"}}}],
    }
    Pod().default({"metadata": {}, "spec": spec}, "v1")
    assert spec["volumes"][0]["projected"]["sources"] == [{}, {}]
    container = spec["containers"][0]
    assert "lifecycle" not in container
    assert container["resources"] == {"limits": {"cpu": "1m"}, "requests": {"cpu": "1m"}}
