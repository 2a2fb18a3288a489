"""What several API servers have given out but not yet written: one row of the store, changed by compare-and-swap.

Cluster IPs and node ports are read from the Services themselves (`services`), so two servers could give out the same
one at the same time. Where the store is shared, each writes what it is about to use into this row first. A claim ends
when the Service can be seen, when its write failed, or after two minutes (its server died).
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from tiphys.apiserver.freshness import Freshness
from tiphys.apiserver.service_ips import ServiceIps
from tiphys.apiserver.services import ServiceAddresses
from tiphys.base.clock import Clock
from tiphys.base.errors import ServiceUnavailable
from tiphys.store.types import Mismatch, Row, Store

KEY = "tiphys/allocations"
ACTOR = "system:apiserver"
SECONDS = 120.0
"""How long a claim without an object is kept: longer than any request takes."""
ATTEMPTS = 32
"""Times that a server tries to write the row against the others."""
What = str | int


@dataclass(frozen=True, slots=True)
class Claim:
    what: What
    server: str
    since: float


@dataclass(frozen=True, slots=True)
class Claims:
    """The row as it was read, and the claims in it that still count."""

    row: Row | None
    claims: tuple[Claim, ...]


class Ledger:
    """The claims of all servers; this one's name in them is its own, made at start."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._server = uuid.uuid4().hex

    async def read(self) -> Claims:
        row = await self._store.get(KEY)
        oldest = self._clock.time() - SECONDS
        found = [Claim(*one) for one in orjson.loads(row.value)] if row is not None else []
        return Claims(row, tuple(claim for claim in found if claim.since > oldest))

    def of_others(self, read: Claims) -> set[What]:
        """What other servers have claimed."""
        return {claim.what for claim in read.claims if claim.server != self._server}

    async def claim(self, read: Claims, wanted: AbstractSet[What], seen: AbstractSet[What]) -> bool:
        """Add `wanted` and drop what is `seen` on objects; False if somebody changed the row since `read`."""
        now = self._clock.time()
        kept = [claim for claim in read.claims if claim.what not in seen and claim.what not in wanted]
        kept += [Claim(what, self._server, now) for what in sorted(wanted, key=str)]
        return await self._write(read, kept)

    async def release(self, given: AbstractSet[What]) -> None:
        """Drop claims whose write failed; if others are busy with the row, they just end later."""
        read = await self.read()
        await self._write(read, [one for one in read.claims if one.what not in given or one.server != self._server])

    async def _write(self, read: Claims, claims: list[Claim]) -> bool:
        value = orjson.dumps([(one.what, one.server, one.since) for one in claims])
        expect = read.row.revision if read.row is not None else 0
        try:
            await self._store.put(KEY, value, expect=expect, actor=ACTOR, cause="service addresses")
        except Mismatch:
            return False
        return True


class SharedAddresses:
    """`ServiceAddresses` of a server that is not the only one."""

    def __init__(self, addresses: ServiceAddresses, ips: ServiceIps, ledger: Ledger, freshness: Freshness) -> None:
        self._addresses, self._ips, self._ledger, self._freshness = addresses, ips, ledger, freshness
        self.released = ips.released

    @asynccontextmanager
    async def reserving(
        self, new: dict[str, Any], old: Mapping[str, Any] | None, *, dry_run: bool
    ) -> AsyncIterator[None]:
        """As `ServiceAddresses.reserving`, among all servers. Raises ServiceUnavailable when they are too busy."""
        asked = new.get("spec")
        for _ in range(ATTEMPTS):
            claims = await self._ledger.read()
            # What others claimed and dropped again before this read can be seen after it.
            await self._freshness.reach()
            self._addresses.foreign = self._ledger.of_others(claims)
            with self._addresses.reserving(new, old, dry_run=dry_run) as held:
                wanted = set() if dry_run else held - self._addresses.reserved
                if not wanted or await self._ledger.claim(claims, wanted, self._addresses.taken()):
                    try:
                        async with self._ips.following(new, old, dry_run=dry_run):
                            yield
                    except Exception:
                        if wanted:
                            await self._ledger.release(wanted)
                        raise
                    return
            new["spec"] = asked
        raise ServiceUnavailable("other servers are giving out addresses; try again", retry_after=1)
