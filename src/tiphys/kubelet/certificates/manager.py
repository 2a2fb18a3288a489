"""Gets a certificate signed by the cluster and keeps it fresh."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from collections.abc import Callable

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, TiphysError
from tiphys.base.tls import KeyPair
from tiphys.client.backoff import Backoff
from tiphys.client.informer import Informer
from tiphys.client.types import Client, Object, Resource
from tiphys.kubelet.certificates.request import Wanted, make_request, renew_at, validity
from tiphys.kubelet.certificates.store import CertificateStore

log = logging.getLogger(__name__)

REQUESTS = Resource("certificates.k8s.io", "v1", "certificatesigningrequests", namespaced=False)
PATIENCE = 900.0
"""Seconds that a request is waited for before another is made."""


class RequestFailed(TiphysError):
    """Denied, failed, or not answered; the message says which."""


class CertificateManager:
    """`changed` is told of each new certificate, after it is on disk."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        store: CertificateStore,
        wanted: Wanted,
        changed: Callable[[KeyPair], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._store = store
        self._wanted = wanted
        self._changed = changed
        self._random = random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._backoff = Backoff(base=2.0, limit=128.0, jitter=0.1, seed=wanted.node)

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            if (pair := self._store.current(self._wanted)) is not None:
                at = renew_at(*validity(pair.certificate), self._random.random())
                await self._clock.sleep(max(0.0, at - self._clock.time()))
            try:
                await self.renew()
                failures = 0
            except (RequestFailed, ApiError, OSError) as error:
                delay = self._backoff.delay(failures)
                failures += 1
                log.warning("no certificate of %s, next try in %.0f s: %s", self._wanted.signer, delay, error)
                await self._clock.sleep(delay)

    async def renew(self) -> KeyPair:
        """Ask for one and keep it. Raises RequestFailed, ApiError, OSError."""
        pair = await self.obtain()
        self._store.put(pair)
        self._changed(pair)
        log.info("there is a new certificate of %s", self._wanted.signer)
        return pair

    async def obtain(self) -> KeyPair:
        body, key = await asyncio.to_thread(make_request, self._wanted)
        made = await self._client.create(REQUESTS, body)
        try:
            async with asyncio.timeout(PATIENCE):
                certificate = await self._answer(str(made["metadata"]["name"]))
        except TimeoutError:
            raise RequestFailed("timed out waiting for the certificate request to be approved and signed") from None
        return KeyPair(certificate, key)

    async def _answer(self, name: str) -> bytes:
        """Wait until the request is signed."""
        answered: asyncio.Future[Object] = asyncio.get_running_loop().create_future()

        def changed(old: Object | None, new: Object | None) -> None:
            if not answered.done() and (new is None or _verdict(new) is not None):
                answered.set_result(new or {})

        informer = Informer(self._client, REQUESTS, self._clock, fields=f"metadata.name={name}")
        informer.subscribe(changed)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(informer.run(), name=f"certificate request {name}")
            found = await answered
            watching.cancel()
        if not found:
            raise RequestFailed(f"certificate request {name} is gone")
        verdict = _verdict(found)
        if verdict:
            raise RequestFailed(f"certificate request {name} {verdict}")
        return base64.b64decode(found["status"]["certificate"])


def _verdict(request: Object) -> str | None:
    """ "" when it is signed, why it never will be, None while it may yet."""
    status = request.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] in ("Denied", "Failed"):
            why = f"{condition.get('reason') or ''}: {condition.get('message') or ''}".strip(": ")
            return f"is {condition['type'].lower()}, reason: {why}"
    return "" if status.get("certificate") else None
