"""Approves what nodes that joined from other machines ask for, on a cluster that lets them join (`up --listen`)."""

from __future__ import annotations

import asyncio
import logging

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError
from tiphys.client.informer import InformerFactory
from tiphys.client.resources import NODES
from tiphys.client.types import Client, Object
from tiphys.cluster.join import requests
from tiphys.controllers import csr_rules
from tiphys.controllers.csr_approving import approved, decided
from tiphys.controllers.csr_rules import CERTIFICATE_SIGNING_REQUESTS

log = logging.getLogger(__name__)

RETRY = 0.5
TRIES = 60
"""A Node tells its addresses soon after it is made; a request that names others is left to people."""


class Approver:
    """`client` may approve requests of all signers; `reserved` is what no node may be called."""

    def __init__(self, client: Client, informers: InformerFactory, clock: Clock, reserved: requests.Reserved) -> None:
        self._client, self._clock, self._reserved = client, clock, reserved
        self._requests = informers.get(CERTIFICATE_SIGNING_REQUESTS)
        self._seen: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:

            def changed(old: Object | None, new: Object | None) -> None:
                if new is None and old is not None:
                    self._seen.discard(old["metadata"]["uid"])
                elif new is not None and new["metadata"]["uid"] not in self._seen and not decided(new):
                    self._seen.add(new["metadata"]["uid"])
                    tasks.create_task(self._look(new), name="certificate request of a node")

            self._requests.subscribe(changed)
            await asyncio.get_running_loop().create_future()

    async def _look(self, request: Object) -> None:
        name = request["metadata"]["name"]
        if not requests.asking_node(request) or request["spec"].get("signerName") not in requests.SIGNERS:
            return
        for _ in range(TRIES):
            try:
                if message := await self._reason(request):
                    await self._client.update(
                        CERTIFICATE_SIGNING_REQUESTS, approved(request, message), subresource="approval"
                    )
                    return
            except (ApiError, OSError) as error:
                log.info("certificate request %s: %s", name, error)
            except ValueError as error:
                log.warning("certificate request %s cannot be read: %s", name, error)
                return
            await self._clock.sleep(RETRY)
            current = self._requests.get("", name)
            if current is None or decided(current):
                return
            request = current
        log.warning("certificate request %s asks for what its node may not have", name)

    async def _reason(self, request: Object) -> str:
        """Why it may be approved; "" if it may not, or not yet. Raises ValueError, ApiError."""
        csr = csr_rules.parsed(request)
        if requests.is_network_account(request, csr):
            return requests.NETWORK_MESSAGE
        nodes = (await self._client.list(NODES)).items
        return requests.SERVING_MESSAGE if requests.is_own_server(request, csr, nodes, self._reserved) else ""
