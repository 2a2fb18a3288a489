"""As whom the network of a node that runs alone asks the API server: it needs more than the node itself may read.

A kubeconfig that was given; or the kubelet's own access, if that may read it all; or a certificate as
system:kube-proxy, asked for as the node, which a cluster of `tiphys up --listen` signs at once and others when somebody
approves it. Two reads decide what may be had: no guessing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError
from tiphys.base.tls import KeyPair
from tiphys.client.config import ClientConfig, load
from tiphys.client.https import HttpsClient
from tiphys.client.types import Client, Resource
from tiphys.kubelet.certificates.manager import CertificateManager
from tiphys.kubelet.certificates.request import Wanted
from tiphys.kubelet.certificates.store import CertificateStore
from tiphys.kubelet.certificates.upkeep import directory_of
from tiphys.kubelet.config import KubeletConfig

log = logging.getLogger(__name__)

RETRY = 2.0
USER = ("system:kube-proxy", "system:node-proxier")
SERVICES = (("", "nodes"), ("", "services"), ("discovery.k8s.io", "endpointslices"))
POLICIES = (("", "pods"), ("", "namespaces"), ("networking.k8s.io", "networkpolicies"))
"""What Services, and what network policies need to be listed and watched, everywhere."""
_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", namespaced=False)


class Account:
    """`client` and `access` are the kubelet's own."""

    def __init__(
        self, config: KubeletConfig, access: ClientConfig, client: Client, clock: Clock, kubeconfig: str = ""
    ) -> None:
        self._access, self._client, self._clock, self._kubeconfig = access, client, clock, kubeconfig
        self._wanted = Wanted(config.node_name, account=USER)
        self._store = CertificateStore(directory_of(config), "network-client", clock)

    async def opened(self, tasks: asyncio.TaskGroup) -> HttpsClient:
        """A client that may read what Services need; waits until there is one. Whoever asked closes it. A certificate
        is kept fresh in `tasks`."""
        if self._kubeconfig:
            return self._as(load(self._kubeconfig))
        pair = self._store.current(self._wanted)
        if pair is None and await self._may_itself():
            return self._as(self._access)
        bare = replace(self._access, token="", token_file=None, username="", password="")
        ready = asyncio.Event()
        made: list[HttpsClient] = []

        def changed(fresh: KeyPair) -> None:
            if made:
                made[0].present(fresh)
            else:
                made.append(self._as(replace(bare, certificate=fresh.certificate, key=fresh.key)))
            ready.set()

        if pair is not None:
            changed(pair)
        manager = CertificateManager(self._client, self._clock, self._store, self._wanted, changed)
        tasks.create_task(manager.run(), name="certificate of the node's network")
        await ready.wait()
        return made[0]

    async def _may_itself(self) -> bool:
        """Whether the kubelet's own access will do; waits for an API server that says so."""
        while True:
            try:
                return await may_list(self._client, SERVICES)
            except (ApiError, OSError) as error:
                log.warning("it is not known yet what this node's network may read: %s", error)
                await self._clock.sleep(RETRY)

    def _as(self, config: ClientConfig) -> HttpsClient:
        return HttpsClient(config, clock=self._clock, agent="kube-proxy")


async def may_list(client: Client, resources: Sequence[tuple[str, str]]) -> bool:
    """Whether it may list all of them, in every namespace. Raises ApiError, OSError."""
    return all([await _may(client, group, plural) for group, plural in resources])


async def _may(client: Client, group: str, plural: str) -> bool:
    attributes = {"group": group, "resource": plural, "verb": "list"}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await client.create(_REVIEWS, review)
    return bool((answer.get("status") or {}).get("allowed"))
