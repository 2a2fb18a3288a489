"""Seams inside the API server: what a request is about, what admission sees, and how parts read objects.

`RequestInfo` is put into `request.attributes["info"]` by the first link of the handler chain (`app.py`) and read by
audit, flow control, authorization and the endpoints. Admission plugins are called by the endpoints, in the
order of `admission/__init__.py`'s list: all `admit`, then (after defaulting and validation) all `validate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tiphys.base.identity import User

if TYPE_CHECKING:
    from tiphys.apiserver.resource import Resource

Object = Mapping[str, Any]


NO_SNIFFING = "no-sniffing"
"""Request attribute: the refusal tells browsers to take its type as it is, as those of authorization do."""


@dataclass(slots=True)
class RequestInfo:
    """The request in the API's terms, as upstream's RequestInfo."""

    verb: str
    """get, list, watch, create, update, patch, delete, deletecollection, proxy; the HTTP method in lower case
    for paths that are not resources."""
    path: str
    resource_request: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    """Plural name, e.g. pods."""
    subresource: str = ""
    name: str = ""
    rest: str = ""
    """What follows the subresource in the path (proxies)."""
    field_selector: str = ""
    label_selector: str = ""


class Reader(Protocol):
    """Current objects, from the watch caches: shared, never change them. Cheap, and synchronous but for waiting."""

    def get(self, group: str, plural: str, namespace: str, name: str) -> Object | None: ...

    async def wait_exists(self, group: str, plural: str, namespace: str, name: str, seconds: float) -> Object | None:
        """The object as soon as it is there; None if it does not come within `seconds`."""
        ...

    def list(self, group: str, plural: str, namespace: str = "") -> Iterable[Object]:
        """All objects of the resource, or those of one namespace."""
        ...

    def revision(self, group: str, plural: str) -> int:
        """Revision of the last change of any object of this resource: what derived indexes are keyed by."""
        ...


@dataclass(slots=True)
class Attributes:
    """What an admission plugin is asked about. Mutating plugins change `obj` in place; it is the request's own."""

    info: RequestInfo
    user: User
    operation: str
    """CREATE, UPDATE, DELETE or CONNECT."""
    kind: tuple[str, str, str]
    """Group, version, kind of `obj`."""
    obj: dict[str, Any] | None
    """None for DELETE."""
    old: Object | None
    """None for CREATE and CONNECT."""
    options: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    """For the audit log."""
    managed: bytes = b""
    """managedFields of `obj` as JSON, which objects in the server do not carry."""
    old_managed: bytes = b""
    resource: Resource | None = None
    """What is written; None for what has no objects (reviews)."""
    round: int = 0
    """1 while the mutating plugins run a second time."""
    reinvoke: bool = False
    """Set by a plugin that changed `obj` in a way that the plugins before it should see: all run once more."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What a plugin keeps for its second round, by its name."""


class Plugin:
    """An admission plugin; override what it does. Refuse by raising `Forbidden` or another ApiError."""

    name: str = ""
    resources: frozenset[tuple[str, str]] | None = None
    """(group, plural) of what it is asked about; None: everything."""
    connects: bool = False
    """Whether it is asked about CONNECT (exec, attach, port-forward, proxies), too."""

    async def admit(self, attributes: Attributes) -> None:
        """May change `attributes.obj`."""

    async def validate(self, attributes: Attributes) -> None:
        """May only refuse."""


class Authorizer(Protocol):
    async def authorize(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        """Whether it is allowed, and the reason for people to read."""
        ...
