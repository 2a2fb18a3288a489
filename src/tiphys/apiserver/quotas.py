"""The ledger of ResourceQuota admission: charges written to the store by compare-and-swap."""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.apiserver.feed import Caches
from tiphys.apiserver.storage import Author, Storage
from tiphys.apiserver.types import Object
from tiphys.store.types import Mismatch

_AUTHOR = Author("system:apiserver", "ResourceQuota admission")


class StoredQuotas:
    """A `QuotaLedger` over the server's own storage."""

    def __init__(self, caches: Caches, storage: Storage) -> None:
        self._quotas = caches.of("", "resourcequotas")
        self._storage = storage

    async def charge(self, quota: Object, used: Mapping[str, str]) -> bool:
        meta = quota["metadata"]
        entry = self._quotas.get(meta["namespace"], meta["name"])
        if entry is None or str(entry.revision) != meta["resourceVersion"]:
            return False
        charged = {**quota, "metadata": dict(meta), "status": {**quota["status"], "used": dict(used)}}
        try:
            await self._storage.replace(self._quotas, entry, charged, _AUTHOR)
        except Mismatch:
            return False
        return True
