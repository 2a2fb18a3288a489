"""The node's lease in kube-node-lease: its heartbeat (KEP-589)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import Clock, rfc3339_micro
from tiphys.base.errors import Conflict, NotFound
from tiphys.client.resources import LEASES
from tiphys.client.types import Client, Object
from tiphys.kubelet.config import KubeletConfig

NAMESPACE = "kube-node-lease"


class NodeLease:
    """Made when it is not there, owned by the node, renewed by `renew`."""

    def __init__(self, config: KubeletConfig, client: Client, clock: Clock) -> None:
        self._config = config
        self._client = client
        self._clock = clock
        self._lease: Object | None = None

    async def renew(self, node: Object) -> None:
        """Raises ApiError, OSError; the next try then reads the lease first."""
        lease, self._lease = self._lease, None
        if lease is None:
            lease = await self._find()
        spec = {
            "holderIdentity": self._config.node_name,
            "leaseDurationSeconds": self._config.lease_duration,
            "renewTime": rfc3339_micro(self._clock.time()),
        }
        if lease is None:
            self._lease = await self._client.create(LEASES, self._new(spec, node), NAMESPACE)
            return
        wanted = {**lease, "spec": {**(lease.get("spec") or {}), **spec}}
        if not lease["metadata"].get("ownerReferences"):
            wanted["metadata"] = {**lease["metadata"], **self._owned(node)}
        try:
            self._lease = await self._client.update(LEASES, wanted, NAMESPACE)
        except (NotFound, Conflict):  # somebody removed or changed it since
            fresh = await self._find()
            if fresh is None:
                self._lease = await self._client.create(LEASES, self._new(spec, node), NAMESPACE)
            else:
                wanted = {**fresh, "spec": {**(fresh.get("spec") or {}), **spec}}
                self._lease = await self._client.update(LEASES, wanted, NAMESPACE)

    async def _find(self) -> Object | None:
        try:
            return await self._client.get(LEASES, self._config.node_name, NAMESPACE)
        except NotFound:
            return None

    def _new(self, spec: Mapping[str, Any], node: Object) -> dict[str, Any]:
        meta = {"name": self._config.node_name, "namespace": NAMESPACE, **self._owned(node)}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": dict(spec)}

    def _owned(self, node: Object) -> dict[str, Any]:
        """The lease goes with its node."""
        uid = node["metadata"].get("uid")
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._config.node_name, "uid": uid}
        return {"ownerReferences": [owner]} if uid else {}
