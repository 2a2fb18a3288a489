"""The OpenAPI documents of one catalog, made on demand and kept compressed.

A new catalog (a custom resource came) needs a new `OpenApi`; documents are made again only when asked for.
Hashes in the v3 index are of the resources' names and versions, so that the index costs nothing.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from tiphys.api.catalog import Catalog, ResourceInfo
from tiphys.api.openapi import binary, v2
from tiphys.api.openapi.paths import PathWriter, list_name
from tiphys.api.openapi.schemas import SchemaWriter
from tiphys.api.schema import Definitions

TITLE = "Kubernetes"


class OpenApi:
    """Documents by their path. Callers may run `v2` and `v3` in a thread: they take up to a second."""

    def __init__(self, catalog: Catalog, definitions: Definitions, version: str) -> None:
        self._catalog, self._definitions, self._version = catalog, definitions, version
        self._made: dict[str, bytes] = {}

    def index(self) -> dict[str, Any]:
        """/openapi/v3: where each group version's document is."""
        paths = {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self.hash(path)}"}
            for path in map(_path, self._group_versions())
        }
        return {"paths": paths}

    def hash(self, path: str) -> str:
        """What the index says about apis/apps/v1; it changes when the document does."""
        group, version = self._split(path)
        digest = hashlib.sha512(self._version.encode())
        for info in self._catalog.members(group, version):
            digest.update(repr((info.plural, info.kind, info.verbs, sorted(info.subresources))).encode())
            if info.type is not None and not info.definitions.knows(group, version, info.kind):
                digest.update(repr(info.type).encode())
        return digest.hexdigest().upper()

    def v3(self, path: str) -> bytes | None:
        """The document of apis/apps/v1 or api/v1; None for a version that is not served."""
        group, version = self._split(path)
        members = self._catalog.members(group, version)
        return self._keep(path, lambda: self._make_v3(group, version, members)) if members else None

    def v2(self) -> bytes:
        """/openapi/v2."""
        return self._keep("v2", self._make_v2)

    def v2_binary(self) -> bytes:
        """/openapi/v2 in protobuf."""
        return self._keep("v2 binary", lambda: orjson.loads(self.v2()), binary.encode)

    def _keep(
        self, name: str, make: Callable[[], dict[str, Any]], encode: Callable[[Any], bytes] = orjson.dumps
    ) -> bytes:
        found = self._made.get(name)
        if found is None:
            body = encode(make())
            self._made[name] = zlib.compress(body, 6)
            return body
        return zlib.decompress(found)

    def _group_versions(self) -> list[tuple[str, str]]:
        return [(group, version) for group in self._catalog.groups() for version in self._catalog.versions(group)]

    def _split(self, path: str) -> tuple[str, str]:
        head, _, version = path.strip("/").rpartition("/")
        return ("", version) if head == "api" else (head.removeprefix("apis/"), version)

    def _make_v3(self, group: str, version: str, members: tuple[ResourceInfo, ...]) -> dict[str, Any]:
        writer = PathWriter(group, version)
        paths = writer.root()
        for info in members:
            paths |= writer.resource(info) if info.type_name else {}
        schemas = self._schemas(_with_custom(self._definitions, members), writer.names, v3=True)
        return {
            "openapi": "3.0.0",
            "info": {"title": TITLE, "version": self._version},
            "paths": dict(sorted(paths.items())),
            "components": {"schemas": _aliased(schemas, members), "securitySchemes": v2.SECURITY},
        }

    def _make_v2(self) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        names: set[str] = set()
        for group, version in self._group_versions():
            writer = PathWriter(group, version)
            paths |= writer.root()
            for info in self._catalog.members(group, version):
                paths |= writer.resource(info) if info.type_name else {}
            names |= writer.names
        known = _with_custom(self._definitions, self._catalog.resources)
        definitions = _aliased(self._schemas(known, names, v3=False), self._catalog.resources)
        return v2.document(dict(sorted(paths.items())), definitions, TITLE, self._version)

    def _schemas(self, definitions: Definitions, names: set[str], *, v3: bool) -> dict[str, Any]:
        return SchemaWriter(definitions, definitions.descriptions(), v3=v3).closure(names)


def _with_custom(definitions: Definitions, members: Iterable[ResourceInfo]) -> Definitions:
    """The definitions and those of the custom resources among `members`: each of them brings its own."""
    types = [
        info.definitions.type(name)
        for info in members
        if info.type is not None and info.type.custom is not None
        for name in (info.type_name, list_name(info))
    ]
    return definitions.with_types(types) if types else definitions


def _path(group_version: tuple[str, str]) -> str:
    group, version = group_version
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _aliased(schemas: dict[str, Any], members: tuple[ResourceInfo, ...]) -> dict[str, Any]:
    """Kinds of old versions share the definition of the version that replaced them: note theirs there too."""
    for info in members:
        schema = schemas.get(info.type_name)
        kind = {"group": info.group, "kind": info.kind, "version": info.version}
        if schema is not None and kind not in schema.get("x-kubernetes-group-version-kind", ()):
            schema["x-kubernetes-group-version-kind"] = [*schema.get("x-kubernetes-group-version-kind", ()), kind]
    return schemas
