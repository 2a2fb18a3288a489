"""Discovery and OpenAPI: what clients ask to learn what is served. Documents are encoded once and kept."""

from __future__ import annotations

from typing import Any

from tiphys.api import discovery
from tiphys.api.catalog import Catalog
from tiphys.apiserver import negotiate, respond
from tiphys.apiserver.aggregation.discovery import Described
from tiphys.apiserver.matching import check_read
from tiphys.apiserver.routes import UNKNOWN, not_found
from tiphys.apiserver.serving import Serving
from tiphys.base.errors import NotAcceptable, NotFound
from tiphys.base.http.types import Request, Response

SWAGGER_BINARY = (
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
)
"""Swagger in protobuf: what old clients and kubectl ask for, and its proper name."""


class Discovery:
    """/api and /apis, plain and aggregated (KEP-3352), and what is below them."""

    def __init__(self, serving: Serving, described: Described) -> None:
        self._serving, self._described = serving, described
        self._aggregated: dict[tuple[bool, str], tuple[Catalog, int, bytes, str]] = {}

    @property
    def _catalog(self) -> Catalog:
        return self._serving.catalog

    async def core(self, request: Request) -> Response:
        """/api"""
        check_read(request)
        api = self._wants_aggregated(request)
        if api:
            return self._aggregate(request, api, core=True)
        host = request.headers.get("host", "")
        return respond.plain(request, discovery.core_versions(self._catalog, host))

    async def groups(self, request: Request) -> Response:
        """/apis"""
        api = self._wants_aggregated(request)
        if api:
            return self._aggregate(request, api, core=False)
        document = discovery.group_list(self._catalog)
        return respond.plain(request, {**document, "groups": self._described.groups(document["groups"])})

    async def core_version(self, request: Request) -> Response:
        """/api/VERSION"""
        return self._resources(request, "", request.path.strip("/").split("/")[1:])

    async def group(self, request: Request) -> Response:
        """/apis/GROUP and /apis/GROUP/VERSION"""
        name, *rest = request.path.strip("/").split("/")[1:]
        if rest:
            return self._resources(request, name, rest)
        own = discovery.group(self._catalog, name)
        groups = self._described.groups([own] if own is not None else [])
        found = next(({"kind": "APIGroup", "apiVersion": "v1", **one} for one in groups if one["name"] == name), None)
        return not_found(request) if found is None else respond.plain(request, found)

    def _resources(self, request: Request, group: str, rest: list[str]) -> Response:
        found = discovery.resource_list(self._catalog, group, rest[0]) if len(rest) == 1 else None
        if found is not None and rest[0] in self._serving.builtin.versions(group):
            check_read(request)
        if found is None and self._serving.builtin.versions(group):
            raise NotFound(UNKNOWN, details={})
        return not_found(request) if found is None else respond.plain(request, found)

    @staticmethod
    def _wants_aggregated(request: Request) -> str:
        return discovery.wants_aggregated(request.headers.get("accept", ""))

    def _aggregate(self, request: Request, api: str, *, core: bool) -> Response:
        catalog = self._catalog
        kept = self._aggregated.get((core, api))
        generation = self._described.generation
        if kept is None or kept[0] is not catalog or kept[1] != generation:
            document = discovery.aggregated(catalog, core=core, api=api)
            if not core and generation:
                document["items"] = self._described.merge(document["items"])
            body = negotiate.dump(document, negotiate.PLAIN)
            kept = self._aggregated[core, api] = (catalog, generation, body, discovery.etag(body))
        *_, body, tag = kept
        headers = {"Content-Type": discovery.content_type(api), "ETag": tag, "Vary": "Accept"}
        headers["Cache-Control"] = "public"
        if request.headers.get("if-none-match") == tag:
            return Response(304, headers)
        return negotiate.compress(request, Response(200, headers, body))


class OpenApi:
    """/openapi/v2 and /openapi/v3. Documents take up to a second to make, in a thread, when first asked for."""

    def __init__(self, serving: Serving, described: Described) -> None:
        from tiphys.apiserver.published import Published

        self._published, self._described = Published(serving), described

    async def v2(self, request: Request) -> Response:
        """/openapi/v2, in JSON or protobuf"""
        media = _swagger_type(request)
        if media == negotiate.JSON:
            return _document(request, await self._published.v2())
        return _document(request, await self._published.v2_binary(), media)

    async def v3(self, request: Request) -> Response:
        """/openapi/v3 and what its index names."""
        path = request.path.strip("/").removeprefix("openapi/v3").strip("/")
        if not path:
            index = self._published.index()
            theirs = self._described.openapi()
            return _index(request, {**index, "paths": {**index["paths"], **theirs}} if theirs else index)
        body = await self._published.v3(path)
        if body is None:
            return not_found(request)
        response = _document(request, body)
        if request.param("hash") == self._published.hash(path):
            # The address holds the hash of its content, so it may be kept for good.
            response.headers["Cache-Control"] = "public, immutable"
            response.headers["Expires"] = "Fri, 31 Dec 9999 23:59:59 GMT"
        return response


def _index(request: Request, document: dict[str, Any]) -> Response:
    """In JSON whatever is accepted, under the type that the reference server gives it."""
    if request.local:
        return Response(200, obj=document)
    return Response(200, {"Content-Type": "text/plain; charset=utf-8"}, negotiate.dump(document, negotiate.PLAIN))


def _swagger_type(request: Request) -> str:
    """The Content-Type of the answer. Raises NotAcceptable."""
    for part in request.headers.get("accept", "").split(","):
        media = part.partition(";")[0].strip()
        if media in SWAGGER_BINARY:
            return SWAGGER_BINARY[1]
        if negotiate.SERVED.get(media) == negotiate.JSON:
            return negotiate.JSON
    raise NotAcceptable(f"only the following media types are accepted: {negotiate.JSON}, {SWAGGER_BINARY[1]}")


def _document(request: Request, body: bytes, media: str = negotiate.JSON) -> Response:
    tag = discovery.etag(body)
    headers = {"Content-Type": media, "ETag": tag, "Vary": "Accept"}
    if request.headers.get("if-none-match") == tag:
        return Response(304, headers)
    if request.local:
        return Response(200, headers, body)
    return negotiate.compress(request, Response(200, headers, body))
