"""Images made by hand, and a registry of our own to pull them from."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tiphys.base.http.server import serve
from tiphys.base.http.types import Request, Response

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, **attributes: Any) -> Entry:
    """One member of a tar; `attributes` are those of TarInfo."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def tar(*entries: Entry) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Made:
    """An image: its blobs, by digest, and its manifest."""

    layers: Sequence[bytes]
    config: bytes = b""
    manifest: bytes = b""
    blobs: dict[str, bytes] = field(default_factory=dict)
    id: str = ""

    def __post_init__(self) -> None:
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/hello"], "Env": ["A=b=c", "EMPTY"], "WorkingDir": "/w", "User": "7"},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
        }
        self.config = json.dumps(config).encode()
        self.id = digest(self.config)
        packed = [gzip.compress(layer, 1) for layer in self.layers]
        kind = "application/vnd.oci.image"
        document = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": _descriptor(f"{kind}.config.v1+json", self.config),
            "layers": [_descriptor(f"{kind}.layer.v1.tar+gzip", layer) for layer in packed],
        }
        self.manifest = json.dumps(document).encode()
        self.blobs = {digest(blob): blob for blob in (self.config, *packed)}


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def index(*manifests: tuple[bytes, str]) -> bytes:
    """A manifest list of (manifest, architecture)."""
    listed = [
        {
            **_descriptor("application/vnd.oci.image.manifest.v1+json", data),
            "platform": {"os": "linux", "architecture": a},
        }
        for data, a in manifests
    ]
    return json.dumps({"schemaVersion": 2, "manifests": listed}).encode()


def docker_archive(image: Made, *tags: str) -> bytes:
    names = [f"{number}/layer.tar" for number in range(len(image.layers))]
    manifest = [{"Config": f"{image.id[7:]}.json", "RepoTags": list(tags), "Layers": names}]
    return tar(
        entry(f"{image.id[7:]}.json", image.config),
        *(entry(name, layer) for name, layer in zip(names, image.layers, strict=True)),
        entry("manifest.json", json.dumps(manifest).encode()),
    )


def oci_archive(image: Made, name: str = "", *, top: bytes = b"") -> bytes:
    """An OCI layout; `top` is an index that leads to the image's manifest."""
    target = top or image.manifest
    descriptor = _descriptor("application/vnd.oci.image.manifest.v1+json", target)
    if name:
        descriptor["annotations"] = {"io.containerd.image.name": name}
    blobs = {**image.blobs, digest(image.manifest): image.manifest, digest(target): target}
    return tar(
        entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        entry("index.json", json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()),
        *(entry(f"blobs/sha256/{name[7:]}", data) for name, data in blobs.items()),
    )


@dataclass
class FakeRegistry:
    """The distribution API for a few blobs. `user` asks for a token by Basic; `breaks` cuts that many downloads."""

    user: tuple[str, str] | None = None
    basic_only: bool = False
    breaks: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    unavailable: bool = False

    def add(self, repository: str, tag: str, image: Made, top: bytes = b"") -> None:
        self.blobs |= image.blobs
        self.manifests[f"{repository}@{digest(image.manifest)}"] = image.manifest
        shown = top or image.manifest
        for version in (f":{tag}", f"@{digest(shown)}"):
            self.manifests[repository + version] = shown

    async def handle(self, request: Request) -> Response:
        self.requests.append(request.path)
        if self.unavailable:
            return Response(503, body=b"maintenance")
        if request.path == "/token":
            return self._token(request)
        if (refusal := self._refusal(request)) is not None:
            return refusal
        repository, _, rest = request.path.removeprefix("/v2/").rpartition("/")
        repository, _, what = repository.rpartition("/")
        if what == "manifests":
            separator = "@" if rest.startswith("sha256:") else ":"
            data = self.manifests.get(f"{repository}{separator}{rest}")
        else:
            data = self.blobs.get(rest)
        return Response(404, body=b'{"errors":[]}') if data is None else self._content(request, data)

    def _content(self, request: Request, data: bytes) -> Response:
        asked = request.headers.get("range", "")
        if asked:
            self.ranges.append(asked)
            data = data[int(asked.removeprefix("bytes=").rstrip("-")) :]
            return Response(206, body=data)
        if self.breaks and len(data) > 100_000:
            self.breaks -= 1
            return Response(200, {"Content-Length": str(len(data)), "Connection": "close"}, data[:50_000])
        return Response(200, body=data)

    def _refusal(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "")
        if self.user is None or given in [f"Bearer {token}" for token in self.tokens]:
            return None
        if self.basic_only:
            if given == _basic(*self.user):
                return None
            return Response(401, {"WWW-Authenticate": 'Basic realm="here"'})
        realm = f"http://{request.headers['host']}/token"
        return Response(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="s",scope="repository:x:pull"'})

    def _token(self, request: Request) -> Response:
        assert self.user is not None
        assert parse_qs(request.query_string)["service"] == ["s"]
        if request.headers.get("authorization") != _basic(*self.user):
            return Response(401)
        self.tokens.append(f"token-{len(self.tokens)}")
        return Response(200, body=json.dumps({"token": self.tokens[-1]}).encode())


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class Kit:
    """The functions above, for tests."""

    entry = staticmethod(entry)
    tar = staticmethod(tar)
    digest = staticmethod(digest)
    index = staticmethod(index)
    docker_archive = staticmethod(docker_archive)
    oci_archive = staticmethod(oci_archive)
    image = Made
    registry = FakeRegistry


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()


@pytest.fixture
def hello(kit: Kit) -> Made:
    """Two layers: /hello, then one that replaces it and deletes nothing."""
    first = tar(entry("hello", b"one"), entry("big", b"0123456789" * 50_000))
    return Made([first, tar(entry("hello", b"two"))])


@pytest.fixture
def serving() -> Callable[[FakeRegistry], AbstractAsyncContextManager[str]]:
    """`async with serving(registry) as host`: the registry on a port of this machine."""

    @asynccontextmanager
    async def run(registry: FakeRegistry) -> AsyncIterator[str]:
        async with serve(registry.handle, "127.0.0.1", 0, grace=0.1) as server:
            yield f"127.0.0.1:{server.port}"

    return run


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[bytes], str]:
    """Write bytes to a new file; returns its path."""

    def save(data: bytes) -> str:
        path = tmp_path / f"file-{len(list(tmp_path.iterdir()))}"
        path.write_bytes(data)
        return str(path)

    return save
