"""One served resource, and one call on it: what every endpoint is handed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.api.catalog import Catalog, ResourceInfo, group_version
from tiphys.api.decode.request import Codec, Expected
from tiphys.api.kinds.base import Context, Kind
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.codec import encode, item
from tiphys.apiserver.entries import Entry, Stored
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.forms import ConvertedForm, Form
from tiphys.apiserver.storage import Author
from tiphys.apiserver.types import RequestInfo
from tiphys.base.http.types import Request
from tiphys.base.identity import User
from tiphys.client.cause import HEADER

Key = tuple[str, str, str]
"""(group, version, plural)"""
FEW, FEW_CHANGES = 4, 64
"""Decoded objects and changes that are kept of resources that are large."""
LARGE = {("apiextensions.k8s.io", "customresourcedefinitions")}
"""Resources whose objects may take megabytes when they are decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A storable resource in one served version, with its cache."""

    info: ResourceInfo
    group: str
    version: str
    plural: str
    namespaced: bool
    kind: Kind
    kind_name: str
    expected: Expected
    """What a body must be."""
    cache: ResourceCache
    form: Form
    """How objects are shown unless the client asks for another form."""

    @property
    def foreign(self) -> bool:
        """Whether this version is not the stored one."""
        return isinstance(self.form, ConvertedForm)

    # What follows is another matter for custom resources (`extensions.resource`), whose requests are handled in their
    # own version and whose conversion may have to ask a webhook.

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition defines it."""
        return False

    @property
    def terminating(self) -> bool:
        """Whether nothing may be created any more."""
        return False

    @property
    def converts(self) -> bool:
        """Whether `ready` and `to_store` have anything to do."""
        return False

    @property
    def codec(self) -> Codec | None:
        """How its bodies are decoded; None: as those of built-in kinds."""
        return None

    def current(self, entry: Entry) -> Mapping[str, Any]:
        """The object that a change starts from; shared, never change it."""
        return self.cache.obj(entry)

    def matched(self, entry: Entry) -> Mapping[str, Any]:
        """The object that selectors are compared with."""
        return self.cache.obj(entry)

    async def ready(self, entries: Iterable[Entry]) -> None:
        """Convert entries to this version, so that they can be shown."""

    async def to_store(self, obj: dict[str, Any]) -> dict[str, Any]:
        """The object in the stored version."""
        return obj

    async def adapt(self, obj: Mapping[str, Any]) -> Mapping[str, Any]:
        """An object of any version of this resource in this version; shared, never change it."""
        return self.form.show(obj)

    def transient(self, key: str, obj: Mapping[str, Any], revision: int, managed: bytes) -> Entry:
        """An Entry of an object that is not in the store: what a dry run answers with."""
        stored, cache = self.cache.stored, self.cache
        value = encode(obj, stored.kind, stored.api_version, managed)
        return cache.entry(key, item(value, cache.head, revision), revision, revision)


@dataclass(slots=True)
class Call:
    """One request at one resource, with its options read."""

    request: Request
    info: RequestInfo
    resource: Resource
    user: User
    now: float
    """Seconds since the epoch."""
    dry_run: bool = False
    validation: str = "Warn"
    manager: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    admitted: bool = False
    """Whether admission was asked already, about what the client sent: what follows is the server's own change."""

    @property
    def namespace(self) -> str:
        return self.info.namespace if self.resource.namespaced else ""

    @property
    def author(self) -> Author:
        cause = self.request.headers.get(HEADER, "") if self.request.local else ""
        return Author(self.user.name, cause)

    def context(self, subresource: str = "") -> Context:
        """What the kind may know about the call."""
        subresource = subresource or self.info.subresource
        return Context(
            self.now, self.user.name, self.namespace, subresource, self.options, self.user, self.resource.version
        )

    def warn(self, *texts: str) -> None:
        """Add to the answer's Warning headers."""
        if texts:
            self.request.attributes.setdefault("warnings", []).extend(texts)


def stored_resources(catalog: Catalog) -> list[Stored]:
    """What the caches have to hold."""
    return [
        Stored(
            info.group,
            info.plural,
            info.kind,
            info.api_version,
            info.namespaced,
            _node_of if (info.group, info.plural) == ("", "pods") else None,
            *((FEW, FEW_CHANGES) if (info.group, info.plural) in LARGE else ()),
        )
        for info in catalog.stored()
    ]


def served_resources(catalog: Catalog, kinds: Sequence[Kind], caches: Caches) -> dict[Key, Resource]:
    """Every storable resource in every served version."""
    served: dict[Key, Resource] = {}
    own = {(kind.group, kind.kind): kind for kind in kinds}
    for info in catalog.resources:
        if info.storable:
            cache = caches.of(info.stored_group, info.plural)
            kind = info.behaviour if info.legacy else own.get((info.group, info.kind), info.behaviour)
            served[info.group, info.version, info.plural] = _resource(info, kind, cache)
    return served


def expected(info: ResourceInfo) -> Expected:
    """What the body of a create or update of this resource must be."""
    return Expected(info.group, info.version, info.kind, info.type)


def _resource(info: ResourceInfo, kind: Kind, cache: ResourceCache) -> Resource:
    return Resource(
        info=info,
        group=info.group,
        version=info.version,
        plural=info.plural,
        namespaced=info.namespaced,
        kind=kind,
        kind_name=info.kind,
        expected=expected(info),
        cache=cache,
        form=_form(info, kind, cache),
    )


def _form(info: ResourceInfo, kind: Kind, cache: ResourceCache) -> Form:
    if (info.group, info.version) == (info.stored_group, info.stored_version):
        return Form(cache, info.kind, info.api_version)
    target = group_version(info.group, info.version)

    def convert(obj: Mapping[str, Any]) -> dict[str, Any]:
        # `convert` may change what it is handed; what readers share stays as it is.
        return dict(kind.convert(_own(obj), kind.stored_version, info.version))

    return ConvertedForm(cache, info.kind, target, convert)


def _own(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if isinstance(value, list) else value


def _node_of(pod: Mapping[str, Any]) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")
