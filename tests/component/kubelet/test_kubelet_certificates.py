"""A kubelet's certificates, asked for and renewed, by the real API server and its signing controllers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.base.identity import User
from tiphys.base.tls import Authority, KeyPair
from tiphys.client.config import ClientConfig, load
from tiphys.client.types import Resource
from tiphys.controllers.csr_rules import SIGNERS
from tiphys.kubelet.certificates.bootstrap import ensure_access, write_kubeconfig
from tiphys.kubelet.certificates.lifetimes import lifetimes
from tiphys.kubelet.certificates.manager import REQUESTS, CertificateManager, RequestFailed
from tiphys.kubelet.certificates.request import Wanted, covers, renew_at, validity
from tiphys.kubelet.certificates.store import CertificateStore, split
from tiphys.kubelet.certificates.upkeep import client_store
from tiphys.kubelet.config import KubeletConfig
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", namespaced=False)
CONTROLLERS = ",".join(f"certificatesigningrequest-{each}-controller" for each in ("approving", "signing"))
NODE = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
HOUR = 3600.0
DAY = 24 * HOUR


def play(scenario: Callable[[Cluster, VirtualClock], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()
    authority = Authority.create("test", clock=clock)
    pair = (authority.certificate, authority.pair.key)
    signing = dict.fromkeys(SIGNERS, pair)
    settings: dict[str, object] = {"cluster-signing": signing, "cluster-signing-duration": 2 * HOUR}

    async def main() -> None:
        async with Cluster(clock, nodes=0, controllers=CONTROLLERS, settings=settings) as cluster:
            role = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
            await cluster.client.create(
                BINDINGS,
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": "renew"},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                    "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:nodes"}],
                },
            )
            await scenario(cluster, clock)

    try:
        clock.run(main())
    finally:
        clock.close()


def manager_of(cluster: Cluster, clock: VirtualClock, where: Path, wanted: Wanted, told: list[KeyPair]) -> Any:
    store = CertificateStore(where, "kubelet-client", clock)
    return CertificateManager(cluster.connect(NODE), clock, store, wanted, told.append)


def test_a_client_certificate_is_signed_and_renewed_in_time(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster, clock: VirtualClock) -> None:
        told: list[KeyPair] = []
        work = asyncio.get_running_loop().create_task(manager_of(cluster, clock, tmp_path, Wanted("n1"), told).run())
        await clock.sleep(60)
        assert len(told) == 1
        since, until = validity(told[0].certificate)
        assert 2 * HOUR <= until - since < 2.1 * HOUR
        current = tmp_path / "kubelet-client-current.pem"
        assert split(current.read_bytes()) == told[0]
        assert current.readlink().name.startswith("kubelet-client-2026-01-01-")
        assert current.stat().st_mode & 0o777 == 0o600
        await clock.sleep(since + 0.69 * (until - since) - clock.time())
        assert len(told) == 1
        await clock.sleep(0.22 * (until - since))
        assert len(told) == 2
        assert split(current.read_bytes()) == told[1]
        work.cancel()

    play(scenario)


def test_a_certificate_that_is_good_is_kept(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster, clock: VirtualClock) -> None:
        told: list[KeyPair] = []
        await manager_of(cluster, clock, tmp_path, Wanted("n1"), told).renew()
        work = asyncio.get_running_loop().create_task(manager_of(cluster, clock, tmp_path, Wanted("n1"), told).run())
        await clock.sleep(HOUR)
        assert len(told) == 1
        work.cancel()

    play(scenario)


def test_a_serving_certificate_waits_for_approval_by_hand(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster, clock: VirtualClock) -> None:
        told: list[KeyPair] = []
        wanted = Wanted("n1", ("n1", "10.0.0.1"))
        manager = manager_of(cluster, clock, tmp_path, wanted, told)
        work = asyncio.get_running_loop().create_task(manager.renew())
        await clock.sleep(30)
        assert not work.done()
        held = (await cluster.client.list(REQUESTS)).items[0]
        assert held["spec"]["signerName"] == "kubernetes.io/kubelet-serving"
        assert sorted(held["spec"]["usages"]) == ["digital signature", "server auth"]
        condition = {"type": "Approved", "status": "True", "reason": "Tested", "message": "by hand"}
        await cluster.client.update(REQUESTS, {**held, "status": {"conditions": [condition]}}, subresource="approval")
        await asyncio.wait_for(work, 60)
        assert covers(told[0].certificate, wanted)
        assert not covers(told[0].certificate, Wanted("n1", ("n2",)))
        store = CertificateStore(tmp_path, "kubelet-client", clock)
        assert store.current(wanted) == told[0]
        assert store.current(Wanted("n1", ("n1", "10.0.0.2"))) is None

    play(scenario)


def test_a_denied_request_is_an_error_that_says_why(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster, clock: VirtualClock) -> None:
        manager = manager_of(cluster, clock, tmp_path, Wanted("n1", ("n1",)), [])
        work = asyncio.get_running_loop().create_task(manager.renew())
        await clock.sleep(1)
        held = (await cluster.client.list(REQUESTS)).items[0]
        condition = {"type": "Denied", "status": "True", "reason": "Strange", "message": "who are you"}
        await cluster.client.update(REQUESTS, {**held, "status": {"conditions": [condition]}}, subresource="approval")
        with pytest.raises(RequestFailed, match="is denied, reason: Strange: who are you"):
            await work

    play(scenario)


def test_nobody_is_waited_for_longer_than_a_quarter_of_an_hour(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster, clock: VirtualClock) -> None:
        with pytest.raises(RequestFailed, match="timed out waiting"):
            await manager_of(cluster, clock, tmp_path, Wanted("n1", ("n1",)), []).renew()

    play(scenario)


def test_renewal_is_spread_over_the_last_third() -> None:
    assert [renew_at(0, 1000, chance) for chance in (0.0, 0.5, 1.0)] == pytest.approx([700, 800, 900])


def test_a_kubeconfig_with_a_valid_certificate_needs_no_bootstrap(tmp_path: Path) -> None:
    clock = VirtualClock()
    authority = Authority.create("test", clock=clock)
    store = CertificateStore(tmp_path / "pki", "kubelet-client", clock)
    store.put(authority.issue("system:node:n1", organizations=("system:nodes",), client=True, days=30))
    access = ClientConfig(server="https://10.0.0.9:6443", ca=authority.certificate)
    file = tmp_path / "kubelet.conf"
    write_kubeconfig(file, access, store.current_file)

    async def scenario() -> None:
        found = await ensure_access(file, tmp_path / "nowhere", store, "n1", clock)
        assert (found.server, found.ca) == (access.server, access.ca)
        assert validity(found.certificate)
        await clock.sleep(31 * DAY)
        with pytest.raises(Permanent, match="cannot read kubeconfig"):
            await ensure_access(file, tmp_path / "nowhere", store, "n1", clock)

    clock.run(scenario())
    assert load(file).server == access.server
    clock.close()


def test_how_long_certificates_are_good_is_told(tmp_path: Path) -> None:
    clock = VirtualClock()
    config = KubeletConfig(node_name="n1", root_dir=tmp_path, rotate_certificates=True, server_tls_bootstrap=True)
    pair = Authority.create("test", clock=clock).issue("system:node:n1", client=True, days=1)
    client_store(config, clock).put(pair)
    found = {name: seconds for name, _, seconds in lifetimes(config, clock)}
    assert found == {
        "kubelet_certificate_manager_client_ttl_seconds": DAY,
        "kubelet_certificate_manager_server_ttl_seconds": float("inf"),
    }
    clock.close()
