"""One served resource, and one call on it: what every endpoint is handed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.api.catalog import Catalog, ResourceInfo, group_version
from tiphys.api.decode.request import Expected
from tiphys.api.kinds.base import Context, Kind
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Stored
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.forms import ConvertedForm, Form
from tiphys.apiserver.storage import Author
from tiphys.apiserver.types import RequestInfo
from tiphys.base.http.types import Request
from tiphys.base.identity import User
from tiphys.client.cause import HEADER

Key = tuple[str, str, str]
"""(group, version, plural)"""


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
        return Context(self.now, self.user.name, self.namespace, subresource, self.options, self.user)

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
            served[info.group, info.version, info.plural] = _resource(
                info, own.get((info.group, info.kind), info.behaviour), cache
            )
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
