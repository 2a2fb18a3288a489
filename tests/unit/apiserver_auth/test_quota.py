"""Resource quotas: what counts, what is refused, and that a charge is a compare-and-swap."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tiphys.apiserver.admission.resource_quota import ResourceQuota
from tiphys.apiserver.types import Attributes
from tiphys.base.errors import Forbidden


class Ledger:
    """Stores charges in the reader; `losses` charges fail first, as if somebody else had been faster."""

    def __init__(self, reader: Any, losses: int = 0) -> None:
        self.reader, self.losses = reader, losses

    async def charge(self, quota: Any, used: Mapping[str, str]) -> bool:
        if self.losses:
            self.losses -= 1
            return False
        self.reader.add("", "resourcequotas", {**quota, "status": {**quota["status"], "used": dict(used)}})
        return True


def quota(reader: Any, hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> None:
    status = {"hard": hard, "used": used if used is not None else dict.fromkeys(hard, "0")}
    metadata = {"name": "q", "namespace": "shop"}
    reader.add("", "resourcequotas", {"metadata": metadata, "spec": {"hard": hard, **spec}, "status": status})


def used(reader: Any) -> dict[str, str]:
    return dict(reader.get("", "resourcequotas", "shop", "q")["status"]["used"])


def pod(**resources: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}}


def charge(reader: Any, request: Attributes, losses: int = 0) -> None:
    asyncio.run(ResourceQuota(reader, Ledger(reader, losses)).validate(request))


def test_a_pod_is_charged_for_what_it_asks(reader: Any, attributes: Any) -> None:
    quota(reader, {"pods": "2", "requests.cpu": "1", "limits.memory": "1Gi", "count/pods": "9", "services": "1"})
    obj = pod(requests={"cpu": "200m"}, limits={"memory": "256Mi"})
    charge(reader, attributes("CREATE", "pods", obj, namespace="shop"), losses=2)
    assert used(reader) == {
        "pods": "1",
        "requests.cpu": "200m",
        "limits.memory": "256Mi",
        "count/pods": "1",
        "services": "0",
    }


def test_what_exceeds_is_refused_with_the_figures(reader: Any, attributes: Any) -> None:
    quota(reader, {"pods": "2", "requests.cpu": "1"}, {"pods": "2", "requests.cpu": "900m"})
    request = attributes("CREATE", "pods", pod(requests={"cpu": "200m"}), namespace="shop")
    with pytest.raises(Forbidden) as caught:
        charge(reader, request)
    assert caught.value.message == (
        'pods "p" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=200m, '
        "used: pods=2,requests.cpu=900m, limited: pods=2,requests.cpu=1"
    )


def test_a_quota_on_memory_wants_every_container_to_name_it(reader: Any, attributes: Any) -> None:
    quota(reader, {"requests.memory": "1Gi", "limits.cpu": "1"})
    with pytest.raises(Forbidden, match=r"failed quota: q: must specify limits.cpu for: c; requests.memory for: c"):
        charge(reader, attributes("CREATE", "pods", pod(), namespace="shop"))


def test_a_quota_that_has_not_been_counted_yet_refuses(reader: Any, attributes: Any) -> None:
    quota(reader, {"configmaps": "1"}, {})
    request = attributes("CREATE", "configmaps", {"metadata": {"name": "x"}}, namespace="shop")
    with pytest.raises(Forbidden, match="status unknown for quota: q, resources: configmaps"):
        charge(reader, request)


@pytest.mark.parametrize(
    ("scopes", "charged"), [(["BestEffort"], "1"), (["NotBestEffort"], "0"), (["Terminating"], "0")]
)
def test_scopes_choose_the_pods(reader: Any, attributes: Any, scopes: list[str], charged: str) -> None:
    quota(reader, {"pods": "5"}, scopes=scopes)
    charge(reader, attributes("CREATE", "pods", pod(), namespace="shop"))
    assert used(reader) == {"pods": charged}


def test_objects_of_any_kind_are_counted(reader: Any, attributes: Any) -> None:
    quota(reader, {"count/deployments.apps": "1"})
    request = attributes("CREATE", "deployments", {"metadata": {"name": "web"}}, namespace="shop", group="apps")
    charge(reader, request)
    with pytest.raises(Forbidden, match=r"exceeded quota: q, requested: count/deployments\.apps=1"):
        charge(reader, request)


def test_an_update_is_charged_for_the_difference(reader: Any, attributes: Any) -> None:
    quota(reader, {"requests.storage": "10Gi", "persistentvolumeclaims": "1"})

    def claim(size: str) -> dict[str, Any]:
        spec = {"resources": {"requests": {"storage": size}}}
        return {"metadata": {"name": "data", "namespace": "shop"}, "spec": spec}

    plural = "persistentvolumeclaims"
    charge(reader, attributes("CREATE", plural, claim("4Gi"), namespace="shop"))
    charge(reader, attributes("UPDATE", plural, claim("9Gi"), claim("4Gi"), namespace="shop", name="data"))
    assert used(reader) == {"requests.storage": "9Gi", "persistentvolumeclaims": "1"}
    with pytest.raises(Forbidden, match=r"requested: requests.storage=2Gi, used: requests.storage=9Gi"):
        charge(reader, attributes("UPDATE", plural, claim("11Gi"), claim("9Gi"), namespace="shop", name="data"))


def test_a_service_counts_its_node_ports(reader: Any, attributes: Any) -> None:
    quota(reader, {"services.nodeports": "2", "services.loadbalancers": "1"})
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}, {"port": 443}]}
    charge(reader, attributes("CREATE", "services", {"metadata": {"name": "s"}, "spec": spec}, namespace="shop"))
    assert used(reader) == {"services.nodeports": "2", "services.loadbalancers": "1"}
