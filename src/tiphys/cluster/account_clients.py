"""Clients that speak as service accounts of the cluster: --use-service-account-credentials of the controller manager.

Each account's token is asked for when it is first needed (TokenRequest), for an hour, and again when four fifths of its
life are over; an account that is missing is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from tiphys.base.clock import Clock, parse_rfc3339
from tiphys.base.errors import AlreadyExists, NotFound, Unauthorized
from tiphys.client.calls import Call, CallingClient
from tiphys.client.resources import SERVICE_ACCOUNTS
from tiphys.client.streams import closing
from tiphys.client.types import Client

log = logging.getLogger(__name__)

_LIFE = 3600
_PART = 0.8

Make = Callable[[str], CallingClient]
"""A client with a bearer token."""


class AccountClient(CallingClient):
    """A client that is a service account; `root` gets its tokens."""

    def __init__(self, root: Client, make: Make, clock: Clock, namespace: str, account: str) -> None:
        self._root = root
        self._make = make
        self._clock = clock
        self._namespace, self._account = namespace, account
        self._inner: CallingClient | None = None
        self._former: CallingClient | None = None
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def exchange(self, call: Call) -> Any:
        client = await self._current()
        try:
            return await client.exchange(call)
        except Unauthorized:
            self._until = 0.0  # the account was deleted and made anew, or the issuer has another key
            return await (await self._current()).exchange(call)

    async def events(self, call: Call) -> AsyncIterator[Mapping[str, Any]]:
        client = await self._current()
        async with closing(client.events(call)) as events:
            async for event in events:
                yield event

    async def close(self) -> None:
        for client in (self._inner, self._former):
            if client is not None:
                await client.close()

    async def _current(self) -> CallingClient:
        async with self._asking:
            now = self._clock.time()
            if self._inner is None or now >= self._until:
                token, expiry = await self._token()
                if self._former is not None:
                    await self._former.close()
                self._former, self._inner = self._inner, self._make(token)  # requests may still be on their way
                self._until = now + (expiry - now) * _PART
            return self._inner

    async def _token(self) -> tuple[str, float]:
        """A token and when it expires, in seconds since the epoch. Raises ApiError, OSError."""
        try:
            return await self._ask()
        except NotFound:
            log.info("making the service account %s/%s", self._namespace, self._account)
        meta = {"name": self._account, "namespace": self._namespace}
        try:
            await self._root.create(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
        except AlreadyExists:
            log.debug("somebody else made it")
        return await self._ask()

    async def _ask(self) -> tuple[str, float]:
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _LIFE},
        }
        made = await self._root.create(
            SERVICE_ACCOUNTS, request, self._namespace, name=self._account, subresource="token"
        )
        status = made["status"]
        return str(status["token"]), parse_rfc3339(status["expirationTimestamp"])
