"""Groups that are answered in this process by somebody else's Handler, handed in by the composition root.

For everybody outside they are like any group behind the aggregation layer: a local APIService, discovery, authorization
here. An APIService that names a Service takes over: whoever installs another server for the group gets it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tiphys.api.meta import new_uid
from tiphys.apiserver.aggregation.discovery import Described, of_resources
from tiphys.apiserver.aggregation.registration import local_service
from tiphys.apiserver.aggregation.remotes import GROUP, PLURAL, Remote
from tiphys.apiserver.defaults import DefaultsWriter
from tiphys.apiserver.types import Object, Reader, RequestInfo
from tiphys.base.clock import Clock, rfc3339
from tiphys.base.http.types import Handler

LABEL = "kube-aggregator.kubernetes.io/automanaged"
ON_START = "onstart"
"""Made when the server starts, then left alone."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A group and version with who answers for it. `handler` gets requests that are authenticated and authorized."""

    group: str
    version: str
    handler: Handler
    resources: Sequence[Mapping[str, Any]] = ()
    """As in an APIResourceList."""
    roles: Sequence[Object] = ()
    """ClusterRoles to be made where they are missing."""
    group_priority: int = 100
    version_priority: int = 100

    @property
    def name(self) -> str:
        """Of its APIService."""
        return f"{self.version}.{self.group}"

    def answers(self, info: RequestInfo) -> bool:
        """Whether a request is for it."""
        if info.resource_request:
            return (info.group, info.version) == (self.group, self.version)
        return f"{info.path}/".startswith(f"/apis/{self.group}/{self.version}/")


def describe(extension: Extension, described: Described) -> None:
    """Put it into discovery."""
    remote = Remote(
        name=extension.name,
        group=extension.group,
        version=extension.version,
        namespace="",
        service="",
        port=0,
        ca=b"",
        insecure=False,
        available=True,
        group_priority=extension.group_priority,
        version_priority=extension.version_priority,
    )
    document = {"resources": list(extension.resources)}
    described.note_local(remote, of_resources(orjson.dumps(document), extension.version))


async def register(extension: Extension, reader: Reader, writer: DefaultsWriter, clock: Clock) -> None:
    """Make its APIService and its roles where they are missing."""
    now = rfc3339(clock.time())
    wanted: list[tuple[str, str, dict[str, Any]]] = [(GROUP, PLURAL, local_service(
        extension.name, extension.group, extension.version, now,
        label=ON_START, priorities=(extension.group_priority, extension.version_priority),
    ))]  # fmt: skip
    for role in extension.roles:
        metadata = {**role["metadata"], "uid": new_uid(), "creationTimestamp": now}
        wanted.append(("rbac.authorization.k8s.io", "clusterroles", {**role, "metadata": metadata}))
    for group, plural, obj in wanted:
        if reader.get(group, plural, "", obj["metadata"]["name"]) is None:
            await writer.create(group, plural, obj)
