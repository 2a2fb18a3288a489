"""The collaborators of the endpoints, in one value: made once by `app.ApiServer`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from tiphys.api.decode.request import Codec
from tiphys.apiserver.admit import Admission
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.ownership import Ownership
from tiphys.apiserver.storage import Storage
from tiphys.apiserver.timers import Timers
from tiphys.apiserver.types import Authorizer
from tiphys.apiserver.watching import Watches
from tiphys.apiserver.webhooks.client import WebhookClient
from tiphys.base.clock import Clock


class Reserve(Protocol):
    """What some kind's objects hold besides themselves (a Service its addresses and ports)."""

    def reserving(
        self, new: dict[str, Any], old: Mapping[str, Any] | None, *, dry_run: bool
    ) -> AbstractAsyncContextManager[object]:
        """Fill in `new` and hold what it takes while it is being written. Raises Invalid."""
        ...

    async def released(self, old: Mapping[str, Any]) -> None:
        """`old` has been deleted: what it held is free."""
        ...


@dataclass(slots=True)
class Parts:
    """See the module's docstring."""

    caches: Caches
    storage: Storage
    codec: Codec
    clock: Clock
    admission: Admission
    watches: Watches
    timers: Timers
    ownership: Ownership
    webhooks: WebhookClient
    authorizer: Authorizer | None = None
    """Asked when one request needs two permissions (an apply that creates); None: everything is allowed."""
    reserves: Mapping[tuple[str, str], Reserve] = field(default_factory=dict)
    """By (group, plural)."""

    def reserving(
        self, group: str, plural: str, new: dict[str, Any], old: Mapping[str, Any] | None, *, dry_run: bool
    ) -> AbstractAsyncContextManager[object]:
        """Hold what `new` takes while it is being written; most kinds take nothing."""
        reserve = self.reserves.get((group, plural))
        return nullcontext() if reserve is None else reserve.reserving(new, old, dry_run=dry_run)

    async def released(self, group: str, plural: str, old: Mapping[str, Any]) -> None:
        """Set free what an object held that is deleted now."""
        reserve = self.reserves.get((group, plural))
        if reserve is not None:
            await reserve.released(old)
