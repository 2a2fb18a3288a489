"""CONNECT: admission of exec, attach, port-forward and the proxies, whose options come in the query (core/v1).

The options are an object for admission (PodExecOptions ...); what a mutating plugin changes of them is written back to
the query before the connection is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from tiphys.apiserver.parts import Parts
from tiphys.apiserver.query import flag
from tiphys.apiserver.resource import Call
from tiphys.base.http.types import Response

Endpoint = Callable[[Call], Awaitable[Response]]
FLAGS = ("stdin", "stdout", "stderr", "tty")


def connecting(parts: Parts, endpoint: Endpoint) -> Endpoint:
    """`endpoint`, asked after admission has allowed the connection."""

    async def connect(call: Call) -> Response:
        if parts.admission.connects:
            subresource = call.resource.info.subresources[call.info.subresource]
            options = {"kind": subresource.kind, "apiVersion": "v1", **options_of(call, subresource.kind)}
            before = dict(options)
            await parts.admission.consult(call, "CONNECT", options)
            if options != before:
                _write_back(call, options)
        return await endpoint(call)

    return connect


def options_of(call: Call, kind: str) -> dict[str, Any]:
    """The query as an object of this kind."""
    query = call.request.query
    if kind in ("PodExecOptions", "PodAttachOptions"):
        out: dict[str, Any] = {name: True for name in FLAGS if flag(call.request, name)}
        if container := call.request.param("container"):
            out["container"] = container
        if kind == "PodExecOptions":
            out["command"] = query.get("command")
        return out
    if kind == "PodPortForwardOptions":
        ports = [int(port) for port in query.get("ports", []) if port.isascii() and port.isdigit()]
        return {"ports": ports} if ports else {}
    return {"path": f"/{call.info.rest}"} if call.info.rest or call.request.path.endswith("/") else {}


def _write_back(call: Call, options: Mapping[str, Any]) -> None:
    if "Proxy" in str(options["kind"]):
        return  # the path is that of the request
    pairs = []
    for name, value in options.items():
        if name in ("kind", "apiVersion") or value in (None, False):
            continue
        shown = value if isinstance(value, list) else [value]
        pairs += [(name, "true" if one is True else str(one)) for one in shown]
    request = call.request
    request.query_string, request._query = urlencode(pairs), None
