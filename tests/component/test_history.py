"""The store's log tells who wrote what, and what made them."""

from __future__ import annotations

from tiphys.client.resources import REPLICA_SETS
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster


def test_a_pod_s_row_names_the_controller_and_the_object_that_made_it_write() -> None:
    clock = VirtualClock()
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    wanted = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }

    async def scenario() -> None:
        async with Cluster(clock) as cluster:
            await cluster.client.create(REPLICA_SETS, wanted)
            await cluster.wait(
                REPLICA_SETS, "default", "web", lambda web: (web.get("status") or {}).get("replicas") == 1
            )
            page = await cluster.store.list("")
            pod = next(row for row in page.rows if "pods/default/web-" in row.key)
            first = await cluster.store.get(pod.key, pod.created)
            assert first is not None
            assert first.actor == "system:serviceaccount:kube-system:replicaset-controller"
            assert first.cause == "replicaset-controller default/web"

    clock.run(scenario())
