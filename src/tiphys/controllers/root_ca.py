"""Every namespace in use has a ConfigMap kube-root-ca.crt, by which pods verify the API server."""

from __future__ import annotations

from typing import Any

from tiphys.base.errors import ApiError, NotFound
from tiphys.client.informer import split_key
from tiphys.client.reconcile import Result
from tiphys.client.resources import CONFIG_MAPS, NAMESPACES
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import annotations_of, deleting, namespace, namespace_terminating, status

NAME = "kube-root-ca.crt"
DESCRIPTION = "kubernetes.io/description"
TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def wanted(namespace_name: str, held: Object | None, certificate: str) -> dict[str, Any] | None:
    """The ConfigMap as it should be written; None if `held` is right."""
    data = {"ca.crt": certificate}
    if held is None:
        meta: dict[str, Any] = {"name": NAME, "namespace": namespace_name, "annotations": {DESCRIPTION: TEXT}}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
    if held.get("data") == data and annotations_of(held).get(DESCRIPTION):
        return None
    notes = {**annotations_of(held), DESCRIPTION: TEXT}
    return {**held, "metadata": {**held["metadata"], "annotations": notes}, "data": data}


class RootCaController(Controller):
    """Keys are namespaces."""

    name = "root-ca-certificate-publisher-controller"
    account = "root-ca-cert-publisher"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._certificate = str(context.settings.get("root-ca", ""))
        self._namespaces = self.watch(NAMESPACES)
        self._maps = self.watch(CONFIG_MAPS, fields=f"metadata.name={NAME}")
        self._namespaces.subscribe(self.enqueue)
        self._maps.subscribe(self._map_changed)

    async def reconcile(self, key: str) -> Result | None:
        _, name = split_key(key)
        held = self._namespaces.get("", name)
        if held is None or deleting(held) or status(held).get("phase") == "Terminating":
            return None
        current = self._maps.get(name, NAME)
        new = wanted(name, current, self._certificate)
        if new is not None:
            await self._write(new, current is None)
        return None

    async def _write(self, new: Object, create: bool) -> None:
        try:
            if create:
                await self.client.create(CONFIG_MAPS, new)
            else:
                await self.client.update(CONFIG_MAPS, new)
        except NotFound:
            return
        except ApiError as error:
            if not namespace_terminating(error):
                raise

    def _map_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is not None and old is not None:
            self.queue.add(namespace(obj))
