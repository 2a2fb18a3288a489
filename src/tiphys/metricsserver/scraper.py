"""Asks kubelets for /metrics/resource, and remembers what they said for as long as it can serve for a rate."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError
from tiphys.base.http.client import HttpClient
from tiphys.metricsserver.points import LONGEST, SHORTEST, Look, base_of, parse

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
PATH = "/metrics/resource"
FRESH = 5.0
"""Seconds for which a look answers further questions."""
PATIENCE = 10.0
"""Seconds that a kubelet may take."""
PAUSE = 1.0
"""Seconds until the second look, where there is nothing to compare the first with."""
MAX_PAGE = 16 << 20
KEPT = 12
"""Looks at a node that are remembered."""


class Scraper:
    """`tls` shows kubelets who asks, and trusts those of the cluster's CA."""

    def __init__(self, tls: ssl.SSLContext | None, clock: Clock) -> None:
        self._tls, self._clock = tls, clock
        self._looks: dict[str, list[Look]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def looks(self, nodes: Iterable[Object]) -> dict[str, tuple[Look, Look]]:
        """By the node's name what to compare, the older first; nodes that do not answer are missing."""
        wanted = list(nodes)
        pairs = await asyncio.gather(*(self._pair(node) for node in wanted))
        names = (node["metadata"]["name"] for node in wanted)
        return {name: pair for name, pair in zip(names, pairs, strict=True) if pair is not None}

    def forget(self, known: Iterable[str]) -> None:
        """Drop what is remembered of nodes that are not `known`."""
        keep = set(known)
        for name in [name for name in self._looks if name not in keep]:
            del self._looks[name]
            self._locks.pop(name, None)

    async def _pair(self, node: Object) -> tuple[Look, Look] | None:
        name = node["metadata"]["name"]
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                newest = await self._newest(name, node)
                base = base_of(self._looks[name], newest)
                if base is None:
                    await self._clock.sleep(max(PAUSE, SHORTEST))
                    newest = await self._look(name, node)
                    base = base_of(self._looks[name], newest)
            except (OSError, ssl.SSLError, ApiError, TimeoutError) as error:
                log.warning("node %s does not tell what is used: %s", name, error or type(error).__name__)
                return None
        return None if base is None else (base, newest)

    async def _newest(self, name: str, node: Object) -> Look:
        """The last look while it is fresh and there is one to compare it with, else a new one."""
        known = self._looks.get(name) or []
        if known and self._clock.monotonic() - known[-1].seen_at < FRESH and base_of(known, known[-1]) is not None:
            return known[-1]
        return await self._look(name, node)

    async def _look(self, name: str, node: Object) -> Look:
        page = await self._ask(node)
        now = self._clock.monotonic()
        look = parse(page, now)
        known = self._looks.setdefault(name, [])
        known.append(look)
        self._looks[name] = [one for one in known[-KEPT:] if now - one.seen_at <= LONGEST]
        return look

    async def _ask(self, node: Object) -> str:
        """The page. Raises OSError, TimeoutError."""
        async with asyncio.timeout(PATIENCE), HttpClient(origin(node), tls=self._tls) as client:
            async with client.stream("GET", PATH) as answer:
                pieces, size = [], 0
                async for piece in answer.chunks:
                    size += len(piece)
                    if size > MAX_PAGE:
                        raise OSError(f"the answer has more than {MAX_PAGE} bytes")
                    pieces.append(piece)
            if answer.status != 200:
                raise OSError(f"status {answer.status}")
        return b"".join(pieces).decode(errors="replace")


def origin(node: Object) -> str:
    """Where a node's kubelet serves. Raises OSError when the node does not say."""
    status = node.get("status") or {}
    known = {one.get("type"): one.get("address") for one in reversed(status.get("addresses") or ())}
    for kind in ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"):
        if host := known.get(kind):
            port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 10250
            return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    raise OSError("it has no address")
