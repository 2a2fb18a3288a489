"""Which URL on which kubelet (or pod, or service endpoint) a subresource request means."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import quote, unquote

from tiphys.api import errors
from tiphys.apiserver import podlogoptions
from tiphys.apiserver.kubelets import Kubelets, Target, bracketed, forward
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.proxyable import proxyable
from tiphys.apiserver.query import flag
from tiphys.apiserver.resource import Call
from tiphys.base.errors import ApiError, BadRequest, InternalError, NotFound, ServiceUnavailable
from tiphys.base.http.types import Request, Response, is_websocket
from tiphys.base.tls import client_context

Object = Mapping[str, Any]
LOG_FLAGS = ("follow", "previous", "timestamps")
LOG_OPTIONS = ("sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream")
STREAMS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
"""Query parameters of exec and attach: the API's name and the kubelet's."""


class Proxies:
    """The proxied subresources: log, exec, attach, portforward and proxy."""

    def __init__(self, parts: Parts, kubelets: Kubelets) -> None:
        self._parts, self._kubelets = parts, kubelets

    async def log(self, call: Call) -> Response:
        """pods/log: text, streamed while the kubelet sends."""
        query = {name: call.request.param(name) for name in LOG_OPTIONS if call.request.param(name)}
        podlogoptions.check(call.info.name, query)
        query = {name: "true" for name in LOG_FLAGS if flag(call.request, name)} | query
        pod = self._pod(call)
        container = self._container(call, pod)
        if not (pod.get("spec") or {}).get("nodeName"):
            return Response(200, {"Content-Type": "text/plain"})
        upgraded = is_websocket(call.request)
        plain = _without_upgrade(call) if upgraded else call
        response = await self._to_kubelet(plain, pod, "containerLogs", container, query)
        if response.status != 200:
            raise await _refused(response)
        if upgraded and response.stream is not None:
            from tiphys.apiserver import logsocket

            return logsocket.serve(call.request, response.stream)
        response.headers.pop("content-type", None)
        response.headers["Content-Type"] = "text/plain"
        return response

    async def session(self, call: Call) -> Response:
        """pods/exec and pods/attach."""
        pod = self._pod(call)
        container = self._container(call, pod)
        self._check_host(pod)
        request = call.request
        given = [(theirs, "1") for ours, theirs in STREAMS.items() if flag(request, ours)]
        if not any(name != "tty" for name, _ in given):
            raise BadRequest("you must specify at least one of stdin, stdout, stderr")
        if call.info.subresource == "exec":
            given += [("command", word) for word in request.query.get("command", [])]
        return await self._to_kubelet(call, pod, call.info.subresource, container, given)

    async def port_forward(self, call: Call) -> Response:
        """pods/portforward."""
        pod = self._pod(call)
        self._check_host(pod)
        ports = [("port", port) for port in call.request.query.get("ports", [])]
        ports += [("port", port) for port in call.request.query.get("port", [])]
        return await self._to_kubelet(call, pod, "portForward", "", ports)

    async def node(self, call: Call) -> Response:
        """nodes/proxy: any path of the kubelet's API."""
        _, name, _ = split_name(call.info.name)
        node = self._parts.caches.get("", "nodes", "", name)
        if node is None:
            raise errors.not_found("", "nodes", name)
        target = self._kubelets.target(node, _rest(call), _query(call.request))
        return await forward(call.request, replace(target, prefix=_prefix(call)))

    async def pod(self, call: Call) -> Response:
        """pods/proxy: a port of a pod, by its IP address."""
        scheme, name, port = split_name(call.info.name)
        pod = self._parts.caches.get("", "pods", call.namespace, name)
        if pod is None:
            raise errors.not_found("", "pods", name)
        host = (pod.get("status") or {}).get("podIP") or ""
        if not proxyable(host):
            raise BadRequest("address not allowed")
        number = port or _first_port(pod)
        return await forward(call.request, _through(call, _origin(scheme, host, number)))

    async def service(self, call: Call) -> Response:
        """services/proxy: one of the endpoints of a service's port."""
        scheme, name, port = split_name(call.info.name)
        service = self._parts.caches.get("", "services", call.namespace, name)
        if service is None:
            raise errors.not_found("", "services", name)
        host, number = self._endpoint(call, service, port)
        return await forward(call.request, _through(call, _origin(scheme, host, number)))

    def _endpoint(self, call: Call, service: Object, wanted: str) -> tuple[str, str]:
        """A ready address and port behind a service's port (by name or number)."""
        name = service["metadata"]["name"]
        ports = (service.get("spec") or {}).get("ports") or ()
        chosen = [p for p in ports if not wanted or wanted in (p.get("name"), str(p.get("port")))]
        if not chosen or (len(chosen) > 1 and not wanted):
            raise ServiceUnavailable(f'no service port "{wanted}" found for service "{name}"')
        for piece in self._parts.caches.list("discovery.k8s.io", "endpointslices", call.namespace):
            if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != name:
                continue
            number = [p.get("port") for p in piece.get("ports") or () if p.get("name") == chosen[0].get("name", "")]
            for endpoint in piece.get("endpoints") or ():
                ready = (endpoint.get("conditions") or {}).get("ready", True)
                if number and ready is not False and self._is_pod(call, endpoint):
                    return endpoint["addresses"][0], str(number[0])
        raise ServiceUnavailable(f'no endpoints available for service "{name}"')

    def _is_pod(self, call: Call, endpoint: Object) -> bool:
        """Whether an endpoint is what it says, a pod of the namespace: slices can be written by who may not reach
        every address that this server reaches."""
        target = endpoint.get("targetRef") or {}
        if target.get("kind") != "Pod" or target.get("namespace") != call.namespace or not endpoint.get("addresses"):
            return False
        pod: Object = self._parts.caches.get("", "pods", call.namespace, target.get("name", "")) or {}
        addresses = (pod.get("status") or {}).get("podIPs") or ()
        return {"ip": endpoint["addresses"][0]} in addresses and proxyable(endpoint["addresses"][0])

    def _pod(self, call: Call) -> Object:
        pod = self._parts.caches.get("", "pods", call.namespace, call.info.name)
        if pod is None:
            raise errors.not_found("", "pods", call.info.name)
        return pod

    def _container(self, call: Call, pod: Object) -> str:
        """The container that is meant; a pod with one needs no name. Raises BadRequest."""
        wanted = call.request.param("container")
        spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
        names = [c["name"] for c in spec.get("containers") or ()]
        inits = [c["name"] for c in spec.get("initContainers") or ()]
        others = [c["name"] for c in spec.get("ephemeralContainers") or ()]
        if wanted:
            if wanted in (*names, *inits, *others):
                return wanted
            raise BadRequest(f"container {wanted} is not valid for pod {name}")
        if len(names) == 1:
            return str(names[0])
        text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
        if inits:
            text += f" or one of the init containers: [{' '.join(inits)}]"
        raise BadRequest(text)

    def _check_host(self, pod: Object) -> None:
        if not (pod.get("spec") or {}).get("nodeName"):
            raise BadRequest(f"pod {pod['metadata']['name']} does not have a host assigned")

    async def _to_kubelet(
        self, call: Call, pod: Object, what: str, container: str, query: Mapping[str, str] | list[tuple[str, str]]
    ) -> Response:
        name = pod["spec"]["nodeName"]
        node = self._parts.caches.get("", "nodes", "", name)
        if node is None:
            raise InternalError(f'Internal error occurred: nodes "{name}" not found')
        pieces = [what, call.namespace, pod["metadata"]["name"], *([container] if container else [])]
        path = "/" + "/".join(quote(piece, safe="") for piece in pieces)
        return await forward(call.request, self._kubelets.target(node, path, query))


def _without_upgrade(call: Call) -> Call:
    """The same request as a plain one: the kubelet sends a log as it is, the WebSocket is ours."""
    headers = call.request.headers.items()
    plain = {name: value for name, value in headers if name != "upgrade" and not name.startswith("sec-websocket")}
    return replace(call, request=replace(call.request, headers=plain))


async def _refused(response: Response) -> ApiError:
    """What a kubelet's plain answer means to a client of the API."""
    body = response.body
    if response.stream is not None:
        body = b"".join([chunk async for chunk in response.stream])
    text = body.decode(errors="replace").strip()
    if response.status == 400:
        return BadRequest(text)
    if response.status == 404:
        return NotFound("the server could not find the requested resource")
    return InternalError(f"Internal error occurred: {text}")


def split_name(text: str) -> tuple[str, str, str]:
    """(scheme, name, port) of `[scheme:]name[:port]`, as the proxy subresources take it."""
    pieces = text.split(":")
    if len(pieces) == 3:
        return pieces[0] or "http", pieces[1], pieces[2]
    return ("http", pieces[0], pieces[1]) if len(pieces) == 2 else ("http", text, "")


def _origin(scheme: str, host: str, port: str) -> str:
    if scheme not in ("http", "https"):
        raise BadRequest(f"invalid scheme {scheme!r}: http or https")
    # What is no number could carry another host: PORT@HOST.
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise BadRequest(f"invalid port {port!r}")
    return f"{scheme}://{bracketed(host)}:{port or ('443' if scheme == 'https' else '80')}"


def _first_port(pod: Object) -> str:
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            return str(port["containerPort"])
    return ""


def _rest(call: Call) -> str:
    """What follows /proxy in the path, percent-encoded as it came."""
    raw = (call.request.raw_path or call.request.path).partition("?")[0]
    before = 7 if call.namespace else 5  # /api/v1[/namespaces/NAMESPACE]/RESOURCE/NAME
    parts = raw.split("/", before + 1)
    if len(parts) == before + 2 and unquote(parts[before]) == "proxy":
        return "/" + parts[-1]
    return "/" + quote(call.info.rest)


def _through(call: Call, origin: str) -> Target:
    tls = _unverified() if origin.startswith("https:") else None
    return Target(origin, _rest(call), call.request.query_string, tls, _prefix(call))


@cache
def _unverified() -> ssl.SSLContext:
    """For pods and Services: nobody says which authority theirs is, and they have no name (upstream does not ask)."""
    return client_context(verify=False)


def _prefix(call: Call) -> str:
    """The path up to and with /proxy."""
    path = call.request.path.rstrip("/")
    return path.removesuffix(f"/{call.info.rest}") if call.info.rest else path


def _query(request: Request) -> list[tuple[str, str]]:
    return [(name, value) for name, values in request.query.items() for value in values]
