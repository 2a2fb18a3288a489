"""A group whose server does not answer is shown, as stale: who asks must not take it for gone."""

from __future__ import annotations

from typing import Any

from tiphys.client.discovery import discover
from tiphys.client.types import Resource
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

API_SERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", namespaced=False)


def api_service() -> dict[str, Any]:
    spec = {
        "group": "down.example.com",
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 10,
        "insecureSkipTLSVerify": True,
        "service": {"name": "nobody", "namespace": "default"},
    }
    return {"kind": "APIService", "metadata": {"name": "v1.down.example.com"}, "spec": spec}


def test_what_is_unknown_is_told_until_its_registration_goes() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock, controllers="") as cluster:
            assert (await discover(cluster.client)).failure == ""
            await cluster.client.create(API_SERVICES, api_service())
            await clock.sleep(1)
            found = await discover(cluster.client)
            assert found.stale == ("down.example.com/v1",)
            assert found.lacks("down.example.com")
            assert not found.lacks("apps")
            groups = (await cluster.client.call("GET", "/apis"))["groups"]
            assert "down.example.com" in [each["name"] for each in groups]
            await cluster.client.delete(API_SERVICES, "v1.down.example.com")
            await clock.sleep(1)
            assert (await discover(cluster.client)).stale == ()

    clock.run(scenario())
    clock.close()
