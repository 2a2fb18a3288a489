"""How the API server itself writes to a CustomResourceDefinition: like a client of /status, through admission.

The field manager is kube-apiserver, as upstream's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tiphys.apiserver.entries import Entry
from tiphys.apiserver.extensions.describing import GROUP, PLURAL
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call, Resource
from tiphys.apiserver.types import RequestInfo
from tiphys.apiserver.updating import Change, update
from tiphys.base.http.types import Request
from tiphys.base.identity import User

Object = Mapping[str, Any]
USER = User("system:apiserver", groups=("system:masters", "system:authenticated"))
MANAGER = "kube-apiserver"


class Writer:
    """Changes definitions' status (and finalizers)."""

    def __init__(self, parts: Parts, resource: Resource) -> None:
        self._parts, self._resource = parts, resource

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._parts.clock.time()

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something after a while."""
        self._parts.timers.after(seconds, what)

    async def write(self, crd: Object, status: Object, *, without: str = "") -> Object:
        """Put a status; `without` is a finalizer to take away. Raises Conflict when `crd` is not the current object."""
        name = crd["metadata"]["name"]

        async def make(current: Object, entry: Entry) -> dict[str, Any]:
            metadata = dict(crd["metadata"])
            if without:
                metadata["finalizers"] = [one for one in metadata.get("finalizers") or () if one != without]
                if not metadata["finalizers"]:
                    del metadata["finalizers"]
            return {**current, "metadata": metadata, "status": dict(status)}

        entry = await update(self._parts, self._call(name), name, Change(make, "status", retries=0))
        return self._resource.cache.obj(entry)

    def _call(self, name: str) -> Call:
        path = f"/apis/{GROUP}/v1/{PLURAL}/{name}/status"
        info = RequestInfo("update", path, True, GROUP, "v1", "", PLURAL, "status", name)
        request = Request("PUT", path, user=USER, local=True, attributes={"info": info})
        return Call(request, info, self._resource, USER, self.now(), manager=MANAGER)
