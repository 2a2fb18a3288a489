"""Namespaces that are not there: NamespaceExists refuses, NamespaceAutoProvision makes them. Off by default."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tiphys.api import errors
from tiphys.apiserver.types import Attributes, Plugin, Reader
from tiphys.base.errors import AlreadyExists
from tiphys.base.http.types import Handler
from tiphys.base.identity import User

SELF = User("system:apiserver", groups=("system:masters",))


class NamespaceExists(Plugin):
    """Nothing happens in a namespace that is not there, not even a deletion."""

    name = "NamespaceExists"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def validate(self, attributes: Attributes) -> None:
        if _missing(self._reader, attributes):
            raise errors.not_found("", "namespaces", attributes.info.namespace)


class NamespaceAutoProvision(Plugin):
    """What is created in a namespace creates the namespace."""

    name = "NamespaceAutoProvision"

    def __init__(self, reader: Reader, handler: Callable[[], Handler]) -> None:
        self._reader, self._handler = reader, handler

    async def admit(self, attributes: Attributes) -> None:
        if attributes.operation != "CREATE" or attributes.dry_run or not _missing(self._reader, attributes):
            return
        from tiphys.client.local import LocalClient
        from tiphys.client.resources import NAMESPACES

        client = LocalClient(self._handler(), SELF, agent="kube-apiserver")
        with contextlib.suppress(AlreadyExists):
            await client.create(NAMESPACES, {"metadata": {"name": attributes.info.namespace}})


def _missing(reader: Reader, attributes: Attributes) -> bool:
    namespace = attributes.info.namespace
    if not namespace or attributes.kind[2] == "Namespace" or attributes.info.resource == "namespaces":
        return False
    return reader.get("", "namespaces", "", namespace) is None
