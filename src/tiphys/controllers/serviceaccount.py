"""Every namespace that is in use has a ServiceAccount named default."""

from __future__ import annotations

from tiphys.base.errors import AlreadyExists, ApiError, NotFound
from tiphys.client.informer import split_key
from tiphys.client.reconcile import Result
from tiphys.client.resources import NAMESPACES, SERVICE_ACCOUNTS
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, namespace, namespace_terminating, status

NAME = "default"


def missing(namespace_object: Object, account: Object | None) -> bool:
    """Whether the account has to be created."""
    in_use = not deleting(namespace_object) and status(namespace_object).get("phase") != "Terminating"
    return in_use and account is None


class ServiceAccountController(Controller):
    """Keys are namespaces."""

    name = "serviceaccount-controller"
    account = "service-account-controller"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._namespaces = self.watch(NAMESPACES)
        self._accounts = self.watch(SERVICE_ACCOUNTS, fields=f"metadata.name={NAME}")
        self._namespaces.subscribe(self.enqueue)
        self._accounts.subscribe(self._account_changed)

    async def reconcile(self, key: str) -> Result | None:
        _, name = split_key(key)
        held = self._namespaces.get("", name)
        if held is None or not missing(held, self._accounts.get(name, NAME)):
            return None
        wanted = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": name}}
        try:
            await self.client.create(SERVICE_ACCOUNTS, wanted)
        except (AlreadyExists, NotFound):
            return None
        except ApiError as error:
            if not namespace_terminating(error):
                raise
        return None

    def _account_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self.queue.add(namespace(old))
