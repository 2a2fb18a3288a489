"""The last link of the chain: which endpoint answers. One table for verbs, one for subresources, one for paths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from tiphys.api import errors
from tiphys.api.catalog import ResourceInfo, SubresourceInfo
from tiphys.apiserver.endpoints import Endpoints
from tiphys.apiserver.matching import CONNECTING, check_types, not_allowed
from tiphys.apiserver.resource import Call
from tiphys.apiserver.serving import Serving
from tiphys.apiserver.types import RequestInfo
from tiphys.base.clock import Clock
from tiphys.base.errors import MethodNotAllowed, NotFound
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import ANONYMOUS

Endpoint = Callable[[Call], Awaitable[Response]]
Plain = Callable[[Request], Awaitable[Response]]
UNKNOWN = "the server could not find the requested resource"
TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
NAMED_VERBS = {"update", "patch"}
ANY = "*"


class Router:
    """Routes requests that are authenticated and authorized."""

    def __init__(
        self,
        serving: Serving,
        endpoints: Endpoints,
        clock: Clock,
        *,
        subresources: Mapping[tuple[str, str], Endpoint],
        unstored: Mapping[tuple[str, str, str], Callable[[Request, RequestInfo, ResourceInfo], Awaitable[Response]]],
        paths: Mapping[str, Plain],
    ) -> None:
        self._serving, self._clock = serving, clock
        self._subresources, self._unstored = subresources, unstored
        self._paths = paths
        self._verbs: dict[str, Endpoint] = {
            "get": endpoints.get,
            "list": endpoints.list,
            "watch": endpoints.watch,
            "create": endpoints.create,
            "update": endpoints.update,
            "patch": endpoints.patch,
            "delete": endpoints.delete,
            "deletecollection": endpoints.deletecollection,
        }

    async def handle(self, request: Request) -> Response:
        """The Handler at the end of the chain."""
        info: RequestInfo = request.attributes["info"]
        if not info.resource_request:
            return await self._path(request)
        resource = self._serving.resources.get((info.group, info.version, info.resource))
        if resource is None:
            return await self._not_stored(request, info)
        if resource.info.deprecated:
            request.attributes.setdefault("warnings", []).append(resource.info.deprecated)
        call = Call(request, info, resource, request.user or ANONYMOUS, self._clock.time())
        if not _placed(call):
            if resource.custom:
                return not_found(request)
            raise NotFound(UNKNOWN, details={})
        if info.subresource:
            return await self._subresource(call)
        everywhere = resource.namespaced and not info.namespace
        if info.verb not in resource.info.verbs or (everywhere and info.verb not in ("list", "watch")):
            if resource.custom:
                return _refuse_custom(call, everywhere)
            raise not_allowed()
        _check_method(call)
        check_types(call)
        return await self._verbs[info.verb](call)

    async def _subresource(self, call: Call) -> Response:
        info, subresource = call.info, call.resource.info.subresources.get(call.info.subresource)
        if subresource is None or not info.name:
            if call.resource.custom:
                raise errors.not_found(info.group, info.resource, info.name)
            raise NotFound(UNKNOWN, details={})
        if info.rest and info.subresource != "proxy":
            raise NotFound(UNKNOWN, details={})
        if not _takes(subresource, call):
            if call.resource.custom:
                return _refuse_custom(call, everywhere=False)
            raise not_allowed()
        check_types(call)
        endpoint = self._find(info, subresource)
        if endpoint is None:
            endpoint = self._verbs[info.verb]
        return await endpoint(call)

    def _find(self, info: RequestInfo, subresource: SubresourceInfo) -> Endpoint | None:
        what = f"{info.resource}/{subresource.name}"
        for name in (what, f"{ANY}/{subresource.name}"):
            for verb in (info.verb, ANY):
                found = self._subresources.get((name, verb))
                if found is not None:
                    return found
        return None

    async def _not_stored(self, request: Request, info: RequestInfo) -> Response:
        """Reviews, bindings and component statuses: resources without objects."""
        catalog = self._serving.catalog
        resource = catalog.get(info.group, info.version, info.resource)
        if resource is None and info.version in self._serving.builtin.versions(info.group):
            raise NotFound(UNKNOWN, details={})
        if resource is None:
            return not_found(request) if info.version in catalog.versions(info.group) else await self._path(request)
        named = bool(info.name) and "get" not in resource.verbs
        if resource.namespaced != bool(info.namespace) or info.subresource or named:
            raise NotFound(UNKNOWN, details={})
        endpoint = self._unstored.get((info.group, info.resource, info.verb))
        if endpoint is None or info.verb not in resource.verbs:
            raise not_allowed()
        if resource.deprecated:
            request.attributes.setdefault("warnings", []).append(resource.deprecated)
        return await endpoint(request, info, resource)

    async def _path(self, request: Request) -> Response:
        """A path that is no resource: the longest registered prefix answers."""
        path = request.path.rstrip("/") or "/"
        found = self._paths.get(path)
        while found is None and path.rfind("/") > 0:
            path = path[: path.rfind("/")]
            found = self._paths.get(path + "/*")
        return await found(request) if found is not None else not_found(request)


def _placed(call: Call) -> bool:
    """Whether the path names a namespace where it should: for an object in one, and for nothing of the cluster's."""
    info = call.info
    if call.resource.namespaced:
        # A field selector can name an object too, but not in the path.
        named = (
            bool(info.name) and call.request.path.rstrip("/").split("/")[-2 if info.subresource else -1] == info.name
        )
        return bool(info.namespace) or not (named or info.subresource)
    return not info.namespace or (info.resource == "namespaces" and info.namespace == info.name)


def _takes(subresource: SubresourceInfo, call: Call) -> bool:
    """Whether a subresource has the request's method; what is proxied has them all."""
    if call.info.subresource not in CONNECTING:
        return call.info.verb in subresource.verbs and call.request.method != "HEAD"
    return call.info.verb in subresource.verbs or (
        call.info.subresource == "proxy" and call.request.method == "OPTIONS"
    )


def _check_method(call: Call) -> None:
    """A name where the verb wants none, none where it wants one, and HEAD: methods that the path does not have.

    Custom resources leave this to their verbs."""
    info, method = call.info, call.request.method
    if call.resource.custom:
        return
    misplaced = (info.verb in NAMED_VERBS and not info.name) or (info.verb == "create" and bool(info.name))
    if misplaced or method == "HEAD" or (info.verb == "watch" and method != "GET"):
        raise not_allowed()


def _refuse_custom(call: Call, everywhere: bool) -> Response:
    """A verb that custom resources do not have; across all namespaces the path is not there at all."""
    if everywhere:
        return not_found(call.request)
    info = call.info
    kind = f"{info.resource}.{info.group}"
    details = {"group": info.group, "kind": info.resource}
    raise MethodNotAllowed(f'{info.verb} is not supported on resources of kind "{kind}"', details=details)


def not_found(request: Request) -> Response:
    """404 for a path that is not served: plain text, as upstream; an error for local clients."""
    if request.local:
        raise NotFound(UNKNOWN, details={})
    return Response(404, dict(TEXT), b"404 page not found\n")
