"""The OpenAPI documents of what is served now: those of built-in resources, made once, and what definitions add.

Schemas of custom resources are decoded and compiled only while a document is made, in a thread, and what is kept is the
compressed document: definitions whose OpenAPI nobody reads cost nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from tiphys.api.catalog import Catalog, ResourceInfo
from tiphys.api.openapi import binary
from tiphys.api.openapi.documents import OpenApi as Documents
from tiphys.apiserver.serving import Definition, Serving
from tiphys.apiserver.version import GIT_VERSION


class Published:
    """See the module's docstring. Paths are those of the v3 index: apis/apps/v1."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._types = serving.builtin.resources[0].definitions
        self._builtin = Documents(serving.builtin, self._types, GIT_VERSION)
        self._builtin_hashes: dict[str, str] = {}
        self._made: dict[str, tuple[str, bytes]] = {}
        """Documents with custom resources in them: the hash of what they are made of, and the compressed text."""

    def index(self) -> dict[str, Any]:
        """/openapi/v3: where each group version's document is."""
        catalog = self._serving.catalog
        names = [(group, version) for group in catalog.groups() for version in catalog.versions(group)]
        by_version: dict[tuple[str, str], list[Definition]] = {}
        for one in self._serving.definitions():
            for version in one.versions:
                by_version.setdefault((one.group, version), []).append(one)
        paths = {}
        for key in names:
            path = f"apis/{'/'.join(key)}" if key[0] else f"api/{key[1]}"
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path, by_version.get(key, ()))}"}
        return {"paths": paths}

    def hash(self, path: str) -> str:
        """What the index says about a path; it changes when the document does."""
        return self._hash(path, self._definitions(*_split(path)))

    def _hash(self, path: str, definitions: Sequence[Definition]) -> str:
        """Built-in documents never change."""
        own = self._builtin_hashes.get(path)
        if own is None:
            own = self._builtin_hashes[path] = self._builtin.hash(path)
        return _digest(own, definitions) if definitions else own

    async def v3(self, path: str) -> bytes | None:
        """The document of one group version; None for one that is not served."""
        group, version = _split(path)
        definitions = self._definitions(group, version)
        if not definitions:
            return await asyncio.to_thread(self._builtin.v3, path)
        members = self._serving.builtin.members(group, version)

        def make() -> bytes:
            infos = [info for info in _compiled(definitions) if info.version == version]
            found = Documents(Catalog((*members, *infos)), self._types, GIT_VERSION).v3(path)
            return found or b"{}"

        return await self._keep(path, _digest(path, definitions), make)

    async def v2(self) -> bytes:
        """/openapi/v2."""
        definitions = self._definitions()
        if not definitions:
            return await asyncio.to_thread(self._builtin.v2)
        return await self._keep("v2", _digest("v2", definitions), lambda: orjson.dumps(self._merged(definitions)))

    async def v2_binary(self) -> bytes:
        """/openapi/v2 in protobuf."""
        definitions = self._definitions()
        if not definitions:
            return await asyncio.to_thread(self._builtin.v2_binary)
        plain = await self.v2()
        return await self._keep("v2 binary", _digest("v2", definitions), lambda: binary.encode(orjson.loads(plain)))

    def _merged(self, definitions: Sequence[Definition]) -> dict[str, Any]:
        """The v2 document of everything."""
        whole: dict[str, Any] = orjson.loads(self._builtin.v2())
        custom = orjson.loads(Documents(Catalog(tuple(_compiled(definitions))), self._types, GIT_VERSION).v2())
        for part in ("paths", "definitions"):
            whole[part] = dict(sorted({**custom[part], **whole[part]}.items()))
        return whole

    async def _keep(self, name: str, digest: str, make: Callable[[], bytes]) -> bytes:
        kept = self._made.get(name)
        if kept is not None and kept[0] == digest:
            return await asyncio.to_thread(zlib.decompress, kept[1])

        def work() -> tuple[bytes, bytes]:
            body = make()
            return body, zlib.compress(body, 6)

        body, packed = await asyncio.to_thread(work)
        self._made[name] = digest, packed
        return body

    def _definitions(self, group: str = "", version: str = "") -> list[Definition]:
        """The definitions that serve something there; all of them without a group."""
        found = self._serving.definitions()
        return [one for one in found if not group or (one.group == group and version in one.versions)]


def _compiled(definitions: Sequence[Definition]) -> Iterable[ResourceInfo]:
    from tiphys.api.custom.definition import compile_definition

    for one in definitions:
        yield from compile_definition(orjson.loads(one.item)).resources()


def _digest(first: str, definitions: Sequence[Definition]) -> str:
    parts = [first, *(f"{one.name} {one.uid} {one.generation} {one.names}" for one in definitions)]
    return hashlib.sha512("\n".join(parts).encode()).hexdigest().upper()


def _split(path: str) -> tuple[str, str]:
    head, _, version = path.strip("/").rpartition("/")
    return ("", version) if head == "api" else (head.removeprefix("apis/"), version)
