"""The API: NodeMetrics and PodMetrics, read only, as metrics-server has them, as JSON or a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api.quantity import Quantity, parse
from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import ApiError, MethodNotAllowed, NotFound
from tiphys.base.http.types import Request, Response
from tiphys.client.resources import NODES, PODS
from tiphys.client.types import Client
from tiphys.metricsserver.points import Look, Use, container_use, node_use
from tiphys.metricsserver.published import API_VERSION, GROUP, RESOURCES
from tiphys.metricsserver.scraper import Scraper

Object = Mapping[str, Any]
Json = dict[str, Any]


class MetricsServer:
    """See the module's docstring. `client` reads nodes and pods; whoever asks was authorized before."""

    def __init__(self, client: Client, scraper: Scraper, clock: Clock) -> None:
        self._client, self._scraper, self._clock = client, scraper, clock

    async def handle(self, request: Request) -> Response:
        """One request below /apis/metrics.k8s.io/v1beta1."""
        try:
            return _answer(request, await self._found(request))
        except ApiError as error:
            return _answer(request, _status(error), error.code)

    async def _found(self, request: Request) -> Json:
        parts = [part for part in request.path.split("/") if part][3:]
        if request.method != "GET" or request.param("watch") in ("1", "true"):
            raise MethodNotAllowed("the server does not allow this method on the requested resource")
        match parts:
            case []:
                return {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": API_VERSION,
                    "resources": list(RESOURCES),
                }
            case ["nodes"]:
                return _list("NodeMetricsList", await self._nodes(request))
            case ["nodes", name]:
                found = [one for one in await self._nodes(request, name) if one["metadata"]["name"] == name]
                return _one(found, "nodemetrics", name)
            case ["pods"]:
                return _list("PodMetricsList", await self._pods(request, ""))
            case ["namespaces", namespace, "pods"]:
                return _list("PodMetricsList", await self._pods(request, namespace))
            case ["namespaces", namespace, "pods", name]:
                found = await self._pods(request, namespace, name)
                return _one(found, "podmetrics", f"{namespace}/{name}")
        raise NotFound("the server could not find the requested resource")

    async def _nodes(self, request: Request, name: str = "") -> list[Json]:
        fields = f"metadata.name={name}" if name else request.param("fieldSelector")
        listing = await self._client.list(NODES, labels=request.param("labelSelector"), fields=fields)
        looks = await self._scraper.looks(listing.items)
        uses = {name: node_use(*pair) for name, pair in looks.items()}
        return [
            {**self._head("NodeMetrics", node), **_times(use), "usage": _usage(use)}
            for node in listing.items
            if (use := uses.get(node["metadata"]["name"])) is not None
        ]

    async def _pods(self, request: Request, namespace: str, name: str = "") -> list[Json]:
        fields = f"metadata.name={name}" if name else request.param("fieldSelector")
        labels = "" if name else request.param("labelSelector")
        listing = await self._client.list(PODS, namespace, labels=labels, fields=fields)
        running = [pod for pod in listing.items if (pod.get("status") or {}).get("phase") == "Running"]
        looks = await self._scraper.looks(await self._nodes_of(running))
        found = []
        for pod in running:
            pair = looks.get(pod["spec"].get("nodeName", ""))
            if pair is not None and (uses := container_uses(pod, *pair)):
                # The pod's window is that of its oldest container, as its usage is the sum of all.
                whole = max(uses.values(), key=lambda use: use.window)
                containers = [{"name": one, "usage": _usage(use)} for one, use in uses.items()]
                found.append({**self._head("PodMetrics", pod), **_times(whole), "containers": containers})
        return found

    async def _nodes_of(self, pods: Iterable[Object]) -> list[Object]:
        names = {pod["spec"].get("nodeName") for pod in pods}
        nodes = (await self._client.list(NODES)).items
        self._scraper.forget(node["metadata"]["name"] for node in nodes)
        return [node for node in nodes if node["metadata"]["name"] in names]

    def _head(self, kind: str, of: Object) -> Json:
        known = of["metadata"]
        metadata: Json = {"name": known["name"]}
        if "namespace" in known:
            metadata["namespace"] = known["namespace"]
        metadata["creationTimestamp"] = rfc3339(self._clock.time())
        if known.get("labels"):
            metadata["labels"] = known["labels"]
        return {"kind": kind, "apiVersion": API_VERSION, "metadata": metadata}


def container_uses(pod: Object, base: Look, newest: Look) -> dict[str, Use]:
    """Of each running container; none at all while one of them is not known yet: a part of a sum would mislead."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    found: dict[str, Use] = {}
    for key in sorted(newest.containers):
        if key[:2] == (namespace, name):
            use = container_use(base, newest, key)
            if use is None:
                return {}
            found[key[2]] = use
    return found


def _times(use: Use) -> Json:
    return {"timestamp": rfc3339(use.time), "window": duration(use.window)}


def _usage(use: Use) -> Json:
    return {"cpu": str(Quantity(use.cpu)), "memory": str(Quantity(use.memory * 10**9, "binary"))}


def duration(seconds: float) -> str:
    """As Go writes it, in milliseconds: 15.02s, 1m0.5s."""
    minutes, rest = divmod(round(seconds, 3), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(minutes)}m{text}" if minutes else text


def _list(kind: str, items: list[Json]) -> Json:
    bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
    return {"kind": kind, "apiVersion": API_VERSION, "metadata": {}, "items": bare}


def _one(found: list[Json], what: str, name: str) -> Json:
    if not found:
        text = f'{what}.{GROUP} "{name}" not found'
        raise NotFound(text, details={"name": name, "group": GROUP, "kind": what})
    return found[0]


def _status(error: ApiError) -> Json:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
        "details": dict(error.details or {}),
        "code": error.code,
    }


def _answer(request: Request, found: Json, code: int = 200) -> Response:
    if code == 200 and "as=Table" in request.headers.get("accept", "") and found["kind"] != "APIResourceList":
        found = table(found)
    if request.local:
        return Response(code, obj=found)
    body = json.dumps(found, separators=(",", ":"), default=dict).encode() + b"\n"
    return Response(code, {"Content-Type": "application/json"}, body)


def table(found: Json) -> Json:
    """A list or one object as meta.k8s.io/v1 Table: name, what is used, over how long."""
    items = found.get("items", [found])
    names = sorted({name for item in items for name in total(item)})
    columns = [_column("Name", "name", "Name of the resource")]
    columns += [_column(name, "quantity", "") for name in names] + [_column("Window", "duration", "")]
    rows = []
    for item in items:
        sums = total(item)
        cells = [item["metadata"]["name"], *(str(sums[name]) for name in names if name in sums), item["window"]]
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
        rows.append({"cells": cells, "object": partial})
    head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}}
    return {**head, "columnDefinitions": columns if items else [], "rows": rows}


def total(item: Json) -> dict[str, Quantity]:
    """What a node, or all containers of a pod, use."""
    parts = [item["usage"]] if "usage" in item else [one["usage"] for one in item["containers"]]
    sums: dict[str, Quantity] = {}
    for part in parts:
        for name, text in part.items():
            amount = Quantity(parse(text).nanos, "binary" if name == "memory" else "decimal")
            sums[name] = sums[name] + amount if name in sums else amount
    return sums


def _column(name: str, format: str, description: str) -> Json:
    return {"name": name, "type": "string", "format": format, "description": description, "priority": 0}
