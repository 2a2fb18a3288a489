"""A registry, or somebody on the way to it, wants our credentials elsewhere, our disk, or a look inside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.base.http.client import Streamed
from tiphys.runtime.images import registry
from tiphys.runtime.images.registry import Registry
from tiphys.runtime.types import Credential

Answer = tuple[int, dict[str, str], list[bytes]]
DIGEST = "sha256:" + "0" * 64


class Web:
    """What is at each URL (without its query), and what was asked for with which Authorization."""

    def __init__(self, answers: Mapping[str, list[Answer]]) -> None:
        self.answers = {url: list(queue) for url, queue in answers.items()}
        self.asked: list[tuple[str, str]] = []

    @asynccontextmanager
    async def request(
        self, url: str, headers: Mapping[str, str], tls: Any = None, near: str = ""
    ) -> AsyncIterator[Streamed]:
        self.asked.append((url.partition("?")[0], headers.get("Authorization", "")))
        status, fields, chunks = self.answers[url.partition("?")[0]].pop(0)

        async def stream() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        yield Streamed(status, fields, stream())


@pytest.fixture
def ours() -> Registry:
    return Registry("https://reg.example", "app", Credential("jane", "secret"))


MANIFEST = "https://reg.example/v2/app/manifests/1"


@pytest.mark.parametrize("realm", ["http://auth.example/token", "http://169.254.169.254/token", "ftp://x/", "/token"])
def test_credentials_are_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch, ours: Registry, realm: str) -> None:
    web = Web({MANIFEST: [(401, {"www-authenticate": f'Bearer realm="{realm}",service="s"'}, [])]})
    monkeypatch.setattr(registry, "_request", web.request)
    with pytest.raises(Permanent, match="not encrypted"):
        asyncio.run(ours.manifest("1"))
    assert web.asked == [(MANIFEST, "")]


def test_a_redirect_elsewhere_carries_no_authorization(monkeypatch: pytest.MonkeyPatch, ours: Registry) -> None:
    body = json.dumps({"schemaVersion": 2}).encode()
    challenge = {"www-authenticate": 'Bearer realm="https://auth.example/token"'}
    web = Web(
        {
            MANIFEST: [(401, challenge, []), (307, {"location": "https://cdn.example/x"}, [])],
            "https://auth.example/token": [(200, {}, [b'{"token": "t"}'])],
            "https://cdn.example/x": [(200, {}, [body])],
        }
    )
    monkeypatch.setattr(registry, "_request", web.request)
    asyncio.run(ours.manifest("1"))
    assert [host for host, sent in web.asked if sent] == ["https://auth.example/token", MANIFEST]


@pytest.mark.parametrize("location", ["http://127.0.0.1:10250/", "file:///etc/shadow", ""])
def test_a_redirect_out_of_tls_is_refused(monkeypatch: pytest.MonkeyPatch, ours: Registry, location: str) -> None:
    web = Web({MANIFEST: [(302, {"location": location}, [])]})
    monkeypatch.setattr(registry, "_request", web.request)
    with pytest.raises(Permanent):
        asyncio.run(ours.manifest("1"))
    assert len(web.asked) == 1


def test_a_layer_ends_where_its_manifest_says(monkeypatch: pytest.MonkeyPatch, ours: Registry, tmp_path: Path) -> None:
    web = Web({f"https://reg.example/v2/app/blobs/{DIGEST}": [(200, {}, [b"x" * 1000] * 1000)]})
    monkeypatch.setattr(registry, "_request", web.request)
    with pytest.raises(Permanent, match="longer than its 2500 bytes"):
        asyncio.run(ours.download(DIGEST, 2500, tmp_path / "layer"))
    assert (tmp_path / "layer").stat().st_size <= 2500
