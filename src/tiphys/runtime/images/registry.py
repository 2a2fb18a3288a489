"""Talk to registries: the distribution API (OCI distribution specification), with mirrors and credentials.

    pull manifest -> (index: choose this machine's) -> configuration, layers -> files, digests checked

For each registry its mirrors are tried in order, then itself. Plain HTTP is used for a mirror whose URL says so
and, after HTTPS failed, for loopback addresses; never otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from tiphys.base.errors import Permanent, Retry
from tiphys.base.http.client import HttpClient, Streamed
from tiphys.runtime.dial import connect_from
from tiphys.runtime.images.content import MAX_CONFIG
from tiphys.runtime.images.reference import DEFAULT_REGISTRY, Reference
from tiphys.runtime.types import Credential, NoSuchImage

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
HEAD_TIMEOUT = 30.0
STALL_TIMEOUT = 60.0
"""Seconds without a byte after which a download is given up."""
REDIRECTS = 5
ATTEMPTS = 3
HOSTS = {DEFAULT_REGISTRY: "registry-1.docker.io"}
HTTP_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Unauthorized(Permanent):
    """The registry wants credentials, or others than these."""


@dataclass(slots=True)
class Registry:
    """One endpoint, spoken to as one user. Raises NoSuchImage, Unauthorized, Permanent, Retry."""

    url: str
    repository: str
    credential: Credential = field(default_factory=Credential)
    root: str = "/v2"
    """Path of the API there."""
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    """The registry that it is a mirror of, which it is told."""
    near: str = ""
    """The network namespace (a path) that it is in; "" for this process's own."""
    _authorization: str = ""

    def _path(self, what: str) -> str:
        return f"{self.root}/{self.repository}/{what}{f'?ns={self.namespace}' if self.namespace else ''}"

    async def manifest(self, version: str) -> tuple[dict[str, Any], str]:
        """A manifest or index by tag or digest, and its digest."""
        headers = {"Accept": ", ".join(MANIFESTS)}
        async with self._get(self._path(f"manifests/{version}"), headers) as answer:
            data = await _whole(answer)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if version.startswith("sha256:") and digest != version:
            raise Permanent(f"{self.url}: the manifest {version} has the content of {digest}")
        try:
            document: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise Permanent(f"{self.url}: the manifest of {self.repository}:{version} is not JSON") from error
        if not isinstance(document, dict):
            raise Permanent(f"{self.url}: the manifest of {self.repository}:{version} is not an object")
        if document.get("schemaVersion") != 2:
            raise Permanent(
                f"{self.url}: {self.repository}:{version} has a manifest of schema 1, which is not supported"
            )
        return document, digest

    async def blob(self, digest: str) -> bytes:
        """A small blob: a configuration."""
        async with self._get(self._path(f"blobs/{digest}"), {}) as answer:
            data = await _whole(answer)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise Permanent(f"{self.url}: blob {digest} has other content")
        return data

    async def download(self, digest: str, size: int, file: Path) -> None:
        """A layer into `file`; goes on where a broken connection left off, checks digest and size at the end."""
        have = hashlib.sha256()
        target = await asyncio.to_thread(open, file, "wb")
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    have = await self._download_rest(digest, size, target, have)
                    break
                except Retry:
                    if attempt == ATTEMPTS:
                        raise
            written = target.tell()
        finally:
            target.close()
        if written != size or f"sha256:{have.hexdigest()}" != digest:
            raise Permanent(f"{self.url}: layer {digest} has other content ({written} bytes of {size})")

    async def _download_rest(self, digest: str, size: int, target: Any, have: Any) -> Any:
        start = target.tell()
        headers = {"Range": f"bytes={start}-"} if start else {}
        async with self._get(self._path(f"blobs/{digest}"), headers) as answer:
            if start and answer.status != 206:
                target.seek(0)
                target.truncate()
                have = hashlib.sha256()
            async for chunk in _steadily(answer.chunks):
                if target.tell() + len(chunk) > size:
                    raise Permanent(f"{self.url}: layer {digest} is longer than its {size} bytes")
                have.update(chunk)
                target.write(chunk)
        return have

    @asynccontextmanager
    async def _get(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[Streamed]:
        """GET with authorization and redirects; anything but success is raised."""
        url = urljoin(self.url, path)
        renewed = False
        for _ in range(REDIRECTS):
            own = urlsplit(url).netloc == urlsplit(self.url).netloc
            extra = dict(self.headers) if own else {}
            if own and self._authorization:
                extra["Authorization"] = self._authorization
            context, near = (self.tls, self.near) if own else (None, "")
            async with _request(url, {**headers, **extra}, context, near) as answer:
                if answer.status in (301, 302, 303, 307, 308):
                    url = _redirect(url, answer.headers.get("location", ""))
                    continue
                if answer.status == 401 and own and not renewed:  # the first time, or the token has expired
                    renewed = True
                    self._authorization = await self._authorize(answer.headers.get("www-authenticate", ""))
                    continue
                await self._check(answer, path)
                yield answer
                return
        raise Permanent(f"{self.url}{path}: too many redirects")

    async def _check(self, answer: Streamed, path: str) -> None:
        if answer.status in (200, 206):
            return
        text = (await _whole(answer))[:300].decode("utf-8", "replace").strip()
        where = f"{self.url}{path}: {answer.status}"
        if answer.status == 404:
            raise NoSuchImage(f"{where}: not found")
        if answer.status in (401, 403):
            raise Unauthorized(f"{where}: pull access denied, the repository does not exist or needs credentials")
        phrase = HTTP_PHRASES.get(answer.status, "")
        told = f"unexpected status from GET request to {self.url}{path}: {answer.status} {phrase}".rstrip()
        told += f": {text}" if text else ""
        raise (Retry if answer.status == 429 or answer.status >= 500 else Permanent)(told)

    async def _authorize(self, challenge: str) -> str:
        """The Authorization header that answers a challenge (RFC 7235, distribution's token specification)."""
        kind, _, rest = challenge.partition(" ")
        basic = _basic(self.credential)
        if kind.lower() == "basic":
            if not basic:
                raise Unauthorized(f"{self.url}: needs a user name and password")
            return basic
        fields = dict(_CHALLENGE.findall(rest))
        if kind.lower() != "bearer" or "realm" not in fields:
            raise Unauthorized(f"{self.url}: asks for authorization by {kind or 'nothing'}, which is not supported")
        if self.credential.token:
            return f"Bearer {self.credential.token}"
        if not _as_safe(fields["realm"], self.url):
            raise Permanent(f"{self.url}: wants authorization by {fields['realm']}, which is not encrypted")
        query = {name: fields[name] for name in ("service", "scope") if name in fields}
        query.setdefault("scope", f"repository:{self.repository}:pull")
        url = f"{fields['realm']}{'&' if '?' in fields['realm'] else '?'}{urlencode(query)}"
        same = urlsplit(url).netloc == urlsplit(self.url).netloc
        async with _request(url, {"Authorization": basic} if basic else {}, self.tls if same else None) as answer:
            if answer.status != 200:
                raise Unauthorized(f"{urlsplit(url).netloc}: no token for {self.repository} ({answer.status})")
            token = json.loads(await _whole(answer))
        return f"Bearer {token.get('token') or token.get('access_token')}"


@dataclass(frozen=True, slots=True)
class Blob:
    """What a manifest says about a blob."""

    digest: str
    size: int


def contents(document: Mapping[str, Any], where: str) -> tuple[Blob, list[Blob]]:
    """The configuration and the layers, lowest first, of a manifest. Raises Permanent for nonsense."""
    try:
        config, *layers = (_blob(entry) for entry in (document["config"], *document["layers"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Permanent(f"{where}: malformed manifest: {error!r}") from error
    return config, layers


def _blob(entry: Mapping[str, Any]) -> Blob:
    digest = str(entry["digest"])
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a sha256 digest")
    return Blob(digest, int(entry["size"]))


def endpoints(registry: str, mirrors: Mapping[str, Sequence[str]]) -> list[str]:
    """URLs to try for `registry`, in order."""
    host = HOSTS.get(registry, registry)
    own = [f"https://{host}"]
    if is_loopback(host):
        own.append(f"http://{host}")
    return [*(url.rstrip("/") for url in mirrors.get(registry, ())), *own]


def repository_at(url: str, reference: Reference) -> str:
    """The repository's name there: a mirror's path is put in front."""
    prefix = urlsplit(url).path.strip("/")
    return f"{prefix}/{reference.path}" if prefix else reference.path


def is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


@asynccontextmanager
async def _request(
    url: str, headers: Mapping[str, str], tls: ssl.SSLContext | None = None, near: str = ""
) -> AsyncIterator[Streamed]:
    parts = urlsplit(url)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    try:
        base, agent = f"{parts.scheme}://{parts.netloc}", {"User-Agent": "tiphys"}
        opened = partial(connect_from, near) if near else None
        async with (
            HttpClient(base, tls=tls, headers=agent, outside=True, opened=opened) as client,
            client.stream("GET", path, headers=headers, timeout=HEAD_TIMEOUT) as answer,
        ):
            yield answer
    except ssl.SSLCertVerificationError as error:
        raise Permanent(f"{_asking(url)}: tls: failed to verify certificate: x509: {error.verify_message}") from error
    except ValueError as error:
        raise Permanent(f"{parts.netloc}: malformed address: {error}") from error
    except socket.gaierror as error:
        raise Retry(f"{_asking(url)}: dial tcp: lookup {parts.hostname}: no such host") from error
    except ConnectionRefusedError as error:
        raise Retry(f"{_asking(url)}: dial tcp {parts.netloc}: connect: connection refused") from error
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise Retry(f"{_asking(url)}: {reason}") from error


def _asking(url: str) -> str:
    return f'failed to do request: Get "{url}"'


def _as_safe(target: str, url: str) -> bool:
    """Whether `target` is encrypted if `url` is: nobody on the way may send us (and what we know) elsewhere."""
    return urlsplit(target).scheme == "https" or urlsplit(url).scheme == urlsplit(target).scheme == "http"


def _redirect(url: str, location: str) -> str:
    target = urljoin(url, location)
    if not location or not _as_safe(target, url):
        raise Permanent(f"{urlsplit(url).netloc} redirects to {location or 'nowhere'}")
    return target


def _basic(credential: Credential) -> str:
    if not credential.username:
        return ""
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


async def _steadily(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, as long as one comes at least every STALL_TIMEOUT."""
    try:
        while True:
            async with asyncio.timeout(STALL_TIMEOUT):
                chunk = await anext(chunks)
            yield chunk
    except StopAsyncIteration:
        return


async def _whole(answer: Streamed) -> bytes:
    data = bytearray()
    async for chunk in _steadily(answer.chunks):
        data += chunk
        if len(data) > MAX_CONFIG:
            raise Permanent(f"an answer of more than {MAX_CONFIG} bytes where a manifest or configuration should be")
    return bytes(data)
