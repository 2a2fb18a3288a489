"""What a controller manager serves of itself."""

from __future__ import annotations

from typing import Any

from tiphys.base.http.types import Request
from tiphys.client.election import Election, ElectionConfig
from tiphys.client.resources import SERVICE_ACCOUNTS
from tiphys.client.types import Resource
from tiphys.cluster.manager_health import handler
from tiphys.controllers.manager import ManagerState
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster


def run(scenario: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=0, controllers="") as cluster:
            await scenario(cluster)

    clock.run(main())


async def ask(cluster: Cluster, state: ManagerState, path: str, query: str = "", token: str = "") -> tuple[int, str]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    response = await handler(state, cluster.client)(Request("GET", path, query, headers=headers))
    return response.status, response.body.decode()


def test_health_lists_the_election_and_every_controller() -> None:
    async def scenario(cluster: Cluster) -> None:
        election = Election(cluster.client, cluster.clock, ElectionConfig("kube-controller-manager", "one"))
        state = ManagerState(election, ("job-controller", "cronjob-controller"))
        assert await ask(cluster, state, "/healthz") == (200, "ok")
        assert await ask(cluster, state, "/healthz/job-controller") == (200, "ok")
        assert (await ask(cluster, state, "/healthz/nonsense"))[0] == 404
        lines = "[+]leaderElection ok\n[+]job-controller ok\n[+]cronjob-controller ok\nhealthz check passed\n"
        assert await ask(cluster, state, "/healthz", "verbose") == (200, lines)

    run(scenario)


ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", namespaced=False)
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", namespaced=False)


def test_metrics_are_for_whom_the_api_server_allows_them() -> None:
    async def scenario(cluster: Cluster) -> None:
        state = ManagerState(controllers=("job-controller",))
        assert (await ask(cluster, state, "/metrics"))[0] == 401
        assert (await ask(cluster, state, "/metrics", token="nonsense"))[0] == 401
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": "default"}}
        await cluster.client.create(SERVICE_ACCOUNTS, account)
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        made = await cluster.client.create(SERVICE_ACCOUNTS, asked, "default", name="reader", subresource="token")
        token = made["status"]["token"]
        assert (await ask(cluster, state, "/metrics", token=token))[0] == 403
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
        rules = [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]
        await cluster.client.create(ROLES, {**rbac, "kind": "ClusterRole", "metadata": {"name": "m"}, "rules": rules})
        subjects = [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}]
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "m"}
        binding = {**rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "m"}}
        await cluster.client.create(BINDINGS, {**binding, "subjects": subjects, "roleRef": role})
        await cluster.clock.sleep(1)
        status, page = await ask(cluster, state, "/metrics", token=token)
        assert status == 200
        assert 'running_managed_controllers{name="job-controller",manager="kube-controller-manager"} 1' in page
        assert (await ask(cluster, state, "/configz", token=token))[0] == 403

    run(scenario)
