"""Metrics as aggregated API servers serve them: metrics.k8s.io, custom.metrics.k8s.io, external.metrics.k8s.io.

`tiphys up` serves the first itself; without a server behind one of them every question is answered by an Unmeasurable
in the words of client-go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api import quantity
from tiphys.base.errors import ApiError, NotFound, ServiceUnavailable
from tiphys.client.types import Client
from tiphys.controllers.autoscaler_replicas import Sample, Unmeasurable
from tiphys.controllers.autoscaler_target import NoSuchKind, Scales, split_version
from tiphys.controllers.objects import moment

Struct = Mapping[str, Any]

_CUSTOM = "custom.metrics.k8s.io"
_EXTERNAL = "external.metrics.k8s.io"
_VERSIONS = ("v1beta2", "v1beta1")
_WINDOW = 60.0
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([\d.]+)(ns|us|µs|ms|s|m|h)")
_PLAIN = ("404 page not found", "service unavailable", "error trying to reach service")
"""What answers that are no Status begin with."""
_GENERIC = {
    NotFound.code: "the server could not find the requested resource",
    ServiceUnavailable.code: "the server is currently unable to handle the request",
}


class Metrics:
    """Questions to the metrics APIs; each raises Unmeasurable. Values are in thousandths."""

    def __init__(self, client: Client, scales: Scales) -> None:
        self._client = client
        self._scales = scales

    async def of_pods(self, namespace: str, selector: str, resource: str, container: str) -> dict[str, Sample]:
        """The usage of a resource by pods, or by one container of each."""
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"
        listing = await self._get(path, "resource metrics API", "pods.metrics.k8s.io", labelSelector=selector)
        items = _items(listing, "resource metrics API")
        found = ((each["metadata"]["name"], _usage(each, resource, container)) for each in items)
        return {name: sample for name, sample in found if sample is not None}

    async def custom_of_pods(
        self, namespace: str, selector: str, metric: str, metric_selector: str
    ) -> dict[str, Sample]:
        """A custom metric of pods."""
        base = await self._custom_base()
        listing = await self._get(
            f"{base}/namespaces/{namespace}/pods/*/{metric}",
            "custom metrics API",
            f"pods.{_CUSTOM}",
            labelSelector=selector,
            metricLabelSelector=metric_selector,
        )
        items = _items(listing, "custom metrics API")
        return {each["describedObject"]["name"]: _custom_sample(each) for each in items}

    async def custom_of_object(self, namespace: str, described: Struct, metric: str, metric_selector: str) -> int:
        """A custom metric of one object in the namespace, or of the namespace itself."""
        base = await self._custom_base()
        group, _ = split_version(described.get("apiVersion") or "")
        if described["kind"] == "Namespace" and not group:
            resource, path = "metrics", f"{base}/namespaces/{namespace}/metrics/{metric}"
        else:
            resource = await self._resource_of(group, described["kind"])
            path = f"{base}/namespaces/{namespace}/{resource}/{described['name']}/{metric}"
        what = f"{resource}.{_CUSTOM}"
        listing = await self._get(path, "custom metrics API", what, metricLabelSelector=metric_selector)
        items: Sequence[Struct] = listing.get("items") or ()
        if len(items) != 1:
            text = f"the custom metrics API server returned {len(items)} results when we asked for exactly one"
            raise _unable("custom metrics API", text)
        return quantity.parse(str(items[0]["value"])).milli

    async def external(self, namespace: str, metric: str, selector: str) -> list[int]:
        """All values of a metric that comes from outside the cluster."""
        path = f"/apis/{_EXTERNAL}/v1beta1/namespaces/{namespace}/{metric}"
        listing = await self._get(path, "external metrics API", f"{metric}.{_EXTERNAL}", labelSelector=selector)
        return [quantity.parse(str(each["value"])).milli for each in _items(listing, "external metrics API")]

    async def _custom_base(self) -> str:
        try:
            group = await self._client.call("GET", f"/apis/{_CUSTOM}")
        except ApiError as error:
            if error.code == NotFound.code:
                text = f"no custom metrics API ({_CUSTOM}) registered"
                raise _unable("custom metrics API", text) from error
            raise _unable("custom metrics API", str(error)) from error
        served = [each["version"] for each in group.get("versions") or ()]
        preferred = (group.get("preferredVersion") or {}).get("version")
        for version in [preferred, *served]:
            if version in _VERSIONS:
                return f"/apis/{_CUSTOM}/{version}"
        raise _unable("custom metrics API", "no known available metric versions found")

    async def _resource_of(self, group: str, kind: str) -> str:
        """The qualified name of the resource behind a kind."""
        shown = f"{kind}.{group}" if group else kind
        try:
            resource = (await self._scales.resources(group, kind))[0]
        except NoSuchKind as error:
            raise _unable("custom metrics API", f"unable to map kind {shown} to resource: {error}") from error
        return f"{resource.plural}.{group}" if group else resource.plural

    async def _get(self, path: str, api: str, what: str, **query: str) -> Struct:
        given = {key: value for key, value in query.items() if value}
        try:
            answer = await self._client.call("GET", path, **given)
        except ApiError as error:
            raise _unable(api, _words(error, what)) from error
        except OSError as error:
            raise _unable(api, str(error)) from error
        if not isinstance(answer, Mapping):
            raise _unable(api, "the answer is not an object")
        return answer


def _words(error: ApiError, what: str) -> str:
    """What client-go says of an answer that does not explain itself."""
    generic = _GENERIC.get(error.code)
    plain = not error.reason or error.message == generic or error.message.startswith(_PLAIN)
    return f"{generic} (get {what})" if generic is not None and plain else str(error)


def _unable(api: str, text: str) -> Unmeasurable:
    return Unmeasurable(f"unable to fetch metrics from {api}: {text}")


def _items(listing: Struct, api: str) -> Sequence[Struct]:
    items: Sequence[Struct] = listing.get("items") or ()
    if not items:
        raise Unmeasurable(f"no metrics returned from {api}")
    return items


def _usage(measured: Struct, resource: str, container: str) -> Sample | None:
    """The usage in a PodMetrics; None if a container's is not there."""
    containers = measured.get("containers") or ()
    if container:
        containers = [each for each in containers if each["name"] == container][:1]
    usages = [(each.get("usage") or {}).get(resource) for each in containers]
    if not usages or any(usage is None for usage in usages):
        return None
    total = sum(quantity.parse(str(usage)).milli for usage in usages)
    return Sample(total, moment(measured.get("timestamp")), seconds_of(measured.get("window")))


def _custom_sample(value: Struct) -> Sample:
    window = value.get("windowSeconds", value.get("window"))
    seconds = _WINDOW if window is None else float(window)
    return Sample(quantity.parse(str(value["value"])).milli, moment(value.get("timestamp")), seconds)


def seconds_of(text: str | None) -> float:
    """A duration as Go writes it ("1m30s")."""
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text or ""))
