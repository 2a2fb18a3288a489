"""An issuer's public keys: found by its discovery document, fetched when they are needed, and again when a token
names one that is not known (OpenID Connect Discovery 1.0, and Core 1.0, 10.1.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from tiphys.apiserver import jwt
from tiphys.apiserver.authn.oidc.config import Issuer
from tiphys.base.clock import Clock
from tiphys.base.http.client import HttpClient

if TYPE_CHECKING:
    import ssl

    from tiphys.apiserver.jwt import PublicKey

WELL_KNOWN = "/.well-known/openid-configuration"
TIMEOUT = 30.0
"""Seconds for a request."""
PAUSE = 1.0
"""Seconds between fetches at least: whoever makes up key names must not make us an issuer's burden."""
STALE = 3600.0
"""Seconds after which keys are fetched again, so that those that were withdrawn are forgotten."""
MAX_DOCUMENT = 4 << 20


class Unavailable(Exception):
    """The issuer could not be asked, or its documents make no sense."""


@dataclass(frozen=True, slots=True)
class Key:
    """One of the issuer's keys."""

    id: str
    key: PublicKey


class IssuerKeys:
    """See the module's docstring."""

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        self._issuer, self._clock = issuer, clock
        self._keys: tuple[Key, ...] = ()
        self._jwks_uri = ""
        self._fetched: float | None = None
        self._tried: float | None = None
        self._lock = asyncio.Lock()
        self._tls: ssl.SSLContext | None = None
        self.failure = ""
        """Why the last attempt to fetch keys failed."""

    @property
    def ready(self) -> bool:
        """Whether the issuer has been asked with success."""
        return self._fetched is not None

    async def candidates(self, key_id: str) -> Sequence[Key]:
        """Keys of this name (all keys for ""); may have to ask the issuer first."""
        found = self._named(key_id)
        if not found or self._stale():
            await self.fetch()
            found = self._named(key_id)
        return found

    def _named(self, key_id: str) -> list[Key]:
        return [key for key in self._keys if not key_id or key.id == key_id]

    def _stale(self) -> bool:
        return self._fetched is None or self._clock.monotonic() - self._fetched > STALE

    async def fetch(self) -> None:
        """Ask the issuer, unless that has just been done; what was known stays when it fails."""
        asked = self._clock.monotonic()
        async with self._lock:
            if self._tried is not None and (self._tried >= asked or asked - self._tried < PAUSE):
                return
            self._tried = self._clock.monotonic()
            try:
                self._keys = await self._load()
                self._fetched, self.failure = self._clock.monotonic(), ""
            except (Unavailable, OSError, ValueError) as error:
                self.failure = str(error) or type(error).__name__

    async def _load(self) -> tuple[Key, ...]:
        if not self._jwks_uri:
            self._jwks_uri = await self._discover()
        document = await self._get(self._jwks_uri)
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise Unavailable("oidc: failed to decode keys")
        found = []
        for each in keys:
            if not isinstance(each, dict) or each.get("use", "sig") != "sig":
                continue
            try:
                found.append(Key(str(each.get("kid") or ""), jwt.from_jwk(each)))
            except jwt.Malformed:
                continue  # of a kind that signs nothing here; others may be good
        return tuple(found)

    async def _discover(self) -> str:
        issuer = self._issuer
        document = await self._get(issuer.discovery_url or issuer.url.rstrip("/") + WELL_KNOWN)
        if document.get("issuer") != issuer.url:
            raise Unavailable(
                "oidc: issuer did not match the issuer returned by provider, expected "
                f'"{issuer.url}" got "{document.get("issuer")}"'
            )
        found = document.get("jwks_uri")
        if not isinstance(found, str) or not found:
            raise Unavailable("oidc: the provider names no jwks_uri")
        return found

    async def _get(self, url: str) -> dict[str, Any]:
        parts = urlsplit(url)
        if parts.scheme != "https":
            raise Unavailable(f"oidc: {url} is not an https URL")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        async with (
            HttpClient(f"https://{parts.netloc}", tls=self._context()) as client,
            client.stream("GET", path, headers={"Accept": "application/json"}, timeout=TIMEOUT) as answer,
            asyncio.timeout(TIMEOUT),
        ):
            body = b""
            async for chunk in answer.chunks:
                body += chunk
                if len(body) > MAX_DOCUMENT:
                    raise Unavailable(f"oidc: {url} is larger than {MAX_DOCUMENT} bytes")
        if answer.status != 200:
            raise Unavailable(f"{answer.status}: {body[:200].decode('utf-8', 'replace')}")
        document = orjson.loads(body)
        if not isinstance(document, dict):
            raise Unavailable(f"oidc: {url} is not an object")
        return document

    def _context(self) -> ssl.SSLContext:
        from tiphys.base.tls import client_context

        if self._tls is None:
            self._tls = client_context(self._issuer.authority or None)
        return self._tls
