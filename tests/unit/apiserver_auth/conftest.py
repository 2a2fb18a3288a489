"""A Reader over a dict, and the default roles in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tiphys.apiserver.bootstrap import BootstrapConfig, desired
from tiphys.apiserver.types import Attributes, RequestInfo
from tiphys.base.identity import User


class Objects:
    """Implements Reader; `add` and `remove` move the resource's revision."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
        self.revisions: dict[tuple[str, str], int] = {}
        self.count = 0

    def add(self, group: str, plural: str, obj: dict[str, Any]) -> dict[str, Any]:
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        self.objects.setdefault((group, plural), {})[key] = obj
        self._moved(group, plural)
        return obj

    def remove(self, group: str, plural: str, namespace: str, name: str) -> None:
        del self.objects[group, plural][namespace, name]
        self._moved(group, plural)

    def get(self, group: str, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.objects.get((group, plural), {}).get((namespace, name))

    async def wait_exists(
        self, group: str, plural: str, namespace: str, name: str, seconds: float
    ) -> dict[str, Any] | None:
        return self.get(group, plural, namespace, name)

    def list(self, group: str, plural: str, namespace: str = "") -> Iterable[dict[str, Any]]:
        found = self.objects.get((group, plural), {})
        return [obj for (where, _), obj in sorted(found.items()) if not namespace or where == namespace]

    def revision(self, group: str, plural: str) -> int:
        return self.revisions.get((group, plural), 0)

    def _moved(self, group: str, plural: str) -> None:
        self.count += 1
        self.revisions[group, plural] = self.count

    # What bootstrap writes through.
    def serves(self, group: str, plural: str) -> bool:
        return True

    async def create(self, group: str, plural: str, obj: dict[str, Any]) -> None:
        self.add(group, plural, obj)

    async def update(self, group: str, plural: str, obj: dict[str, Any]) -> None:
        self.add(group, plural, obj)


CONFIG = BootstrapConfig("192.0.2.2", 6443)


@pytest.fixture
def reader() -> Objects:
    return Objects()


@pytest.fixture
def booted(reader: Objects) -> Objects:
    """With everything that a cluster starts with."""
    for wish in desired(CONFIG, 0.0):
        reader.add(wish.group, wish.plural, wish.obj)
    return reader


@pytest.fixture
def attributes() -> Any:
    """Builds an admission request: attributes("CREATE", "pods", obj, namespace="default")."""

    def build(
        operation: str,
        plural: str,
        obj: dict[str, Any] | None,
        old: dict[str, Any] | None = None,
        *,
        namespace: str = "",
        name: str = "",
        group: str = "",
        kind: str = "",
        subresource: str = "",
        user: User = User("jane"),  # noqa: B008 - frozen
    ) -> Attributes:
        info = RequestInfo(operation.lower(), "", True, group, "v1", namespace, plural, subresource, name)
        return Attributes(info, user, operation, (group, "v1", kind), obj, old)

    return build
