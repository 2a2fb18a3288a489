"""As whom the network of a node that runs alone asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.clock import SystemClock
from tiphys.base.tls import Authority
from tiphys.client.config import ClientConfig
from tiphys.cluster.alone.account import POLICIES, SERVICES, USER, Account, may_list
from tiphys.kubelet.certificates.store import CertificateStore
from tiphys.kubelet.config import KubeletConfig
from tiphys.testing.clock import VirtualClock

ACCESS = ClientConfig("https://192.0.2.1", token="the kubelet's")


class Reviews:
    """An API server that says who may list what; at first it may not be there."""

    def __init__(self, allowed: set[str], absent: int = 0) -> None:
        self.allowed, self.absent, self.made = allowed, absent, []  # type: ignore[var-annotated] # of requests

    async def create(self, resource: Any, body: Any, namespace: str = "") -> dict[str, Any]:
        if self.absent:
            self.absent -= 1
            raise ConnectionRefusedError(111, "Connection refused")
        if resource.plural == "certificatesigningrequests":
            self.made.append(body)
            await asyncio.get_running_loop().create_future()
        attributes = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": attributes["resource"] in self.allowed}}


ALL = {plural for _, plural in (*SERVICES, *POLICIES)}


def opened(client: Reviews, root: Path, kubeconfig: str = "", patience: float = 60.0) -> str:
    """The token that it speaks by; "certificate" or "nobody"."""
    clock = VirtualClock(SystemClock().time())
    config = KubeletConfig(node_name="far", root_dir=root)

    async def main() -> str:
        async with asyncio.TaskGroup() as tasks:
            account = Account(config, ACCESS, client, clock, kubeconfig)  # type: ignore[arg-type] # a stand-in
            opening = tasks.create_task(account.opened(tasks))
            waiting = tasks.create_task(clock.sleep(patience))
            await asyncio.wait((opening, waiting), return_when=asyncio.FIRST_COMPLETED)
            found = "nobody"
            if opening.done():
                made = opening.result()
                found = made._config.token or "certificate"
                await made.close()
            for task in tasks._tasks:  # the renewal of the certificate has no other end
                task.cancel()
        return found

    try:
        return clock.run(main())
    finally:
        clock.close()


def test_the_kubelets_own_access_will_do_if_it_may_read_all(tmp_path: Path) -> None:
    assert opened(Reviews(ALL), tmp_path) == "the kubelet's"


def test_an_api_server_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    assert opened(Reviews(ALL, absent=3), tmp_path) == "the kubelet's"


def test_a_node_asks_for_a_certificate_of_its_proxy(tmp_path: Path) -> None:
    client = Reviews({"services"})
    assert opened(client, tmp_path) == "nobody"
    assert [body["spec"]["signerName"] for body in client.made] == ["kubernetes.io/kube-apiserver-client"]


def test_a_certificate_that_it_has_is_used_without_asking_anybody(tmp_path: Path) -> None:
    clock = VirtualClock(SystemClock().time())
    pair = Authority.ensure(tmp_path / "ca.crt", tmp_path / "ca.key", "ca").issue(
        USER[0], organizations=(USER[1],), names=(), server=False, client=True, days=30
    )
    CertificateStore(tmp_path / "pki", "network-client", clock).put(pair)
    clock.close()
    assert opened(Reviews(set(), absent=1000), tmp_path) == "certificate"


def test_a_kubeconfig_that_was_given_wins(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(
        "clusters: [{name: c, cluster: {server: 'https://192.0.2.1'}}]\nusers: [{name: u, user: {token: given}}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
    )
    assert opened(Reviews(set(), absent=1000), tmp_path, str(file)) == "given"


@pytest.mark.parametrize(("allowed", "may"), [(ALL, True), (ALL - {"pods"}, False)])
def test_all_of_it_has_to_be_allowed(allowed: set[str], may: bool) -> None:
    assert asyncio.run(may_list(Reviews(allowed), POLICIES)) is may  # type: ignore[arg-type] # a stand-in
