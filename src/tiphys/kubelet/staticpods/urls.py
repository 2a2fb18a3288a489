"""Manifests at a URL (staticPodURL): asked for again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.base.http.client import HttpClient
from tiphys.kubelet.staticpods.manifest import MAX_BYTES, ManifestError, read_pods

log = logging.getLogger(__name__)

_TIMEOUT = 10.0

Pods = list[dict[str, Any]]


class UrlSource:
    """`changed(pods)` is called after each answer that differs from the one before."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        node: str,
        clock: Clock,
        period: float,
        changed: Callable[[Pods], None],
    ) -> None:
        self._url = url
        self._headers = dict(headers)
        self._node = node
        self._clock = clock
        self._period = period
        self._changed = changed
        self._last: bytes | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._ask()
            except (TiphysError, OSError, ValueError, TimeoutError) as error:
                log.warning("static pods: %s cannot be used: %s", self._url, error)
            except Exception:  # no manifest ends the kubelet
                log.exception("static pods: %s", self._url)
            await self._clock.sleep(self._period)

    async def _ask(self) -> None:
        url = urlsplit(self._url)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        async with HttpClient(f"{url.scheme}://{url.netloc}", headers=self._headers) as client:
            data = await self._fetch(client, target)
        if not data:
            self._last = None
            self._changed([])
            raise ManifestError("zero-length data received")
        if data == self._last:
            return
        self._last = data
        self._changed(read_pods(data, "http", self._url, self._node))

    async def _fetch(self, client: HttpClient, target: str) -> bytes:
        data = b""
        async with client.stream("GET", target, timeout=_TIMEOUT) as answer:
            async for chunk in answer.chunks:
                data += chunk
                if len(data) > MAX_BYTES:
                    raise ManifestError(f"it is larger than {MAX_BYTES} bytes")
        if answer.status != 200:
            raise ManifestError(f"{self._url}: status {answer.status}")
        return data
