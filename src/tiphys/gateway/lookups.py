"""The Secrets that routes and listeners name. Those of type kubernetes.io/tls are watched together; any other one by
itself, and only while something names it."""

from __future__ import annotations

from collections.abc import Callable, Set

from tiphys.client.informer import Informer, InformerFactory
from tiphys.client.resources import SECRETS
from tiphys.client.types import Object
from tiphys.gateway.plan import SecretKey

_TLS = "type=kubernetes.io/tls"


class SecretLookup:
    """Started by the first name that is asked for."""

    def __init__(self, informers: InformerFactory, changed: Callable[[], None]) -> None:
        self._informers = informers
        self._changed = changed
        self._tls: Informer | None = None
        self._single: dict[SecretKey, Informer] = {}

    def get(self, namespace: str, name: str) -> Object | None:
        single = self._single.get((namespace, name))
        found = single.get(namespace, name) if single is not None else None
        if found is None and self._tls is not None:
            found = self._tls.get(namespace, name)
        return found

    async def follow(self, wanted: Set[SecretKey]) -> None:
        """Watch these; returns when what is there of them is known."""
        if not wanted:
            return
        if self._tls is None:
            self._tls = self._informers.get(SECRETS, fields=_TLS)
            self._tls.subscribe(self._told)
            await self._tls.wait_synced()
        for key in [key for key in self._single if key not in wanted]:
            self._informers.stop(self._single.pop(key))
        for key in wanted:
            if key not in self._single and self._tls.get(*key) is None and all(key):
                await self._follow(key)

    async def _follow(self, key: SecretKey) -> None:
        namespace, name = key
        informer = self._informers.get(SECRETS, namespace=namespace, fields=f"metadata.name={name}")
        self._single[key] = informer
        informer.subscribe(self._told)
        await informer.wait_synced()

    def _told(self, old: Object | None, new: Object | None) -> None:
        self._changed()
