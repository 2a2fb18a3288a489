"""Every resource that is served: group, version, kind, verbs, subresources, behaviour and schema.

A `Catalog` is a value. `builtin(kinds)` makes the one of Kubernetes 1.36 from `data/resources.txt`; custom
resources come by `with_resources`, which gives a new catalog. Looking up is a dict get. Versions that upstream
no longer serves (batch/v1beta1) are resources like others that name the version which holds their objects.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tiphys.api import schema
from tiphys.api.kinds.base import Kind

TABLE = Path(__file__).parent / "data" / "resources.txt"
ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
SUBRESOURCE_VERBS = ("get", "patch", "update")

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")


@dataclass(frozen=True, slots=True)
class SubresourceInfo:
    """One subresource. group, version and kind are those of its bodies, mostly its resource's own."""

    name: str
    group: str
    version: str
    kind: str
    verbs: tuple[str, ...] = SUBRESOURCE_VERBS


@dataclass(frozen=True, slots=True, eq=False)
class ResourceInfo:
    """One resource in one served version."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    behaviour: Kind
    definitions: schema.Definitions
    type_name: str = ""
    """The schema definition of its objects; "" if there is none."""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: Mapping[str, SubresourceInfo] = field(default_factory=dict)
    stored_group: str = ""
    stored_version: str = ""
    """The group and version that the store holds this resource's objects in."""
    hash_version: str = ""
    deprecated: str = ""
    """The text for the Warning header; "" when the version is current."""
    legacy: bool = False
    """Whether upstream 1.36 does not serve this version any more."""
    list_kind: str = ""
    returns_deleted: bool = False
    """Whether DELETE answers with the object that went, not with a Status."""
    custom: bool = False
    """Whether a CustomResourceDefinition defines it."""

    @property
    def api_version(self) -> str:
        return group_version(self.group, self.version)

    @property
    def type(self) -> schema.Type | None:
        """The schema of its objects."""
        return self.definitions.type(self.type_name) if self.type_name else None

    @property
    def storable(self) -> bool:
        """Whether objects are kept (reviews and bindings are not)."""
        return "get" in self.verbs and "create" in self.verbs

    @property
    def storage_version_hash(self) -> str:
        """What discovery shows; it changes when the stored version does."""
        if not self.storable:
            return ""
        text = f"{self.stored_group}/{self.hash_version or self.stored_version}/{self.kind}"
        return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


@dataclass(frozen=True)
class Catalog:
    """See the module's docstring. Resources are in the order of discovery."""

    resources: tuple[ResourceInfo, ...]

    @cached_property
    def _by_plural(self) -> dict[tuple[str, str, str], ResourceInfo]:
        return {(one.group, one.version, one.plural): one for one in self.resources}

    @cached_property
    def _by_kind(self) -> dict[tuple[str, str, str], ResourceInfo]:
        return {(one.group, one.version, one.kind): one for one in self.resources}

    @cached_property
    def _versions(self) -> dict[str, tuple[str, ...]]:
        groups: dict[str, dict[str, bool]] = {}
        for one in self.resources:
            versions = groups.setdefault(one.group, {})
            versions[one.version] = versions.get(one.version, True) and one.legacy
        return {group: tuple(sorted(found, key=found.__getitem__)) for group, found in groups.items()}

    @cached_property
    def _members(self) -> dict[tuple[str, str], tuple[ResourceInfo, ...]]:
        members: dict[tuple[str, str], list[ResourceInfo]] = {}
        for one in self.resources:
            members.setdefault((one.group, one.version), []).append(one)
        return {key: tuple(sorted(found, key=lambda one: one.plural)) for key, found in members.items()}

    def get(self, group: str, version: str, plural: str) -> ResourceInfo | None:
        return self._by_plural.get((group, version, plural))

    def of_kind(self, group: str, version: str, kind: str) -> ResourceInfo | None:
        return self._by_kind.get((group, version, kind))

    def groups(self) -> tuple[str, ...]:
        """Group names, "" first, in the order of discovery."""
        return tuple(self._versions)

    def versions(self, group: str) -> tuple[str, ...]:
        """Served versions, the preferred one first; () for an unknown group."""
        return self._versions.get(group, ())

    def current_versions(self, group: str) -> tuple[str, ...]:
        """The versions that upstream serves too, the preferred one first."""
        return tuple(one for one in self.versions(group) if not all(info.legacy for info in self.members(group, one)))

    def members(self, group: str, version: str) -> tuple[ResourceInfo, ...]:
        """The resources of one version, by plural name; () for an unknown one."""
        return self._members.get((group, version), ())

    def stored(self) -> tuple[ResourceInfo, ...]:
        """The resources whose own version is the stored one: what needs a cache and a key prefix."""
        return tuple(
            one
            for one in self.resources
            if one.storable and (one.group, one.version) == (one.stored_group, one.stored_version)
        )

    def with_resources(self, resources: Iterable[ResourceInfo]) -> Catalog:
        """This catalog and more resources, those with the same group, version and plural replaced.

        Groups that are new come last, by name; versions are ordered as Kubernetes ranks them (v2, v1, v1beta1)."""
        added = {(one.group, one.version, one.plural): one for one in resources}
        kept = [one for one in self.resources if (one.group, one.version, one.plural) not in added]
        known = {one.group: position for position, one in reversed(list(enumerate(kept)))}
        fresh = sorted(added.values(), key=lambda one: (one.group, version_rank(one.version), one.plural))
        inserted = sorted(
            [*kept, *fresh], key=lambda one: (known.get(one.group, len(kept)), "" if one.group in known else one.group)
        )
        return Catalog(tuple(inserted))

    def without(self, resources: Iterable[tuple[str, str, str]]) -> Catalog:
        """This catalog less some (group, version, plural)."""
        gone = set(resources)
        return Catalog(tuple(one for one in self.resources if (one.group, one.version, one.plural) not in gone))


def builtin(kinds: Iterable[Kind], definitions: schema.Definitions | None = None) -> Catalog:
    """The built-in resources with their behaviours; a kind without a module gets the plain behaviour."""
    definitions = definitions or schema.builtin()
    behaviours = {(kind.group, kind.kind): kind for kind in kinds}
    return Catalog(tuple(_read(TABLE.read_text(), behaviours, definitions)))


def group_version(group: str, version: str) -> str:
    """apps/v1; v1 for the core group."""
    return f"{group}/{version}" if group else version


def split_group_version(text: str) -> tuple[str, str]:
    """("apps", "v1") of apps/v1; ("", "v1") of v1."""
    group, _, version = text.rpartition("/")
    return group, version


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes ranks them: stable, beta, alpha, each the higher number first; then others."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return 3, 0, 0, version
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return stage, -int(match[1]), -int(match[3] or 0), version


def deprecation(api_version: str, kind: str, since: str, removed: str = "", use: tuple[str, str] | None = None) -> str:
    """The text of the Warning header for a deprecated version; `use` is (apiVersion, kind)."""
    text = f"{api_version} {kind} is deprecated in v{since}+"
    if removed:
        text += f", unavailable in v{removed}+"
    return text + (f"; use {use[0]} {use[1]}" if use else "")


def plain_behaviour(group: str, plural: str, kind: str, *, has_status: bool, stored_version: str = "v1") -> Kind:
    """The behaviour of a kind that has no module of its own."""
    behaviour = Kind()
    behaviour.group, behaviour.plural, behaviour.kind = group, plural, kind
    behaviour.has_status = has_status
    behaviour.stored_version = stored_version
    return behaviour


@dataclass(slots=True)
class _Line:
    """A line of the table: its words and its options."""

    words: list[str]
    options: dict[str, str]

    def listed(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        return tuple(self.options[name].split(",")) if name in self.options else default


def _read(
    text: str, behaviours: Mapping[tuple[str, str], Kind], definitions: schema.Definitions
) -> Iterable[ResourceInfo]:
    group = version = ""
    blocks: list[tuple[str, str, list[_Line]]] = []
    for raw in text.splitlines():
        if raw.startswith("#"):
            continue
        if not raw.startswith(" "):
            group, version = split_group_version(raw)
            continue
        words = raw.split()
        line = _Line(
            [word for word in words if "=" not in word], dict(word.split("=", 1) for word in words if "=" in word)
        )
        if "/" in line.words[0]:
            blocks[-1][2].append(line)
        else:
            blocks.append((group, version, [line]))
    for group, version, lines in blocks:
        yield _resource(group, version, lines, behaviours, definitions)


def _resource(
    group: str,
    version: str,
    lines: list[_Line],
    behaviours: Mapping[tuple[str, str], Kind],
    definitions: schema.Definitions,
) -> ResourceInfo:
    head, *rest = lines
    plural, kind, scope = head.words
    stored_group, stored_version = split_group_version(head.options.get("stored", group_version(group, version)))
    subresources = {line.words[0].partition("/")[2]: _subresource(line, group, version, kind) for line in rest}
    behaviour = behaviours.get((stored_group, kind))
    if "removed" in head.options:
        from tiphys.api.kinds.former.all import behaviour as former

        behaviour = former(group_version(group, version), kind) or behaviour
    if behaviour is None:
        has_status = "status" in subresources
        behaviour = plain_behaviour(stored_group, plural, kind, has_status=has_status, stored_version=stored_version)
    return ResourceInfo(
        group,
        version,
        kind,
        plural,
        kind.lower(),
        scope == "n",
        behaviour,
        definitions,
        type_name=definitions.name_of(group, version, kind)
        or _replacing(head, definitions)
        or definitions.name_of(stored_group, stored_version, kind),
        short_names=head.listed("short"),
        categories=head.listed("categories"),
        verbs=head.listed("verbs", ALL_VERBS),
        subresources=subresources,
        stored_group=stored_group,
        stored_version=stored_version,
        hash_version=head.options.get("hash", ""),
        deprecated=_warning(head, group, version, kind),
        legacy="removed" in head.options,
        list_kind=kind + "List",
        returns_deleted=head.options.get("deleted") == "object",
    )


def _subresource(line: _Line, group: str, version: str, kind: str) -> SubresourceInfo:
    name = line.words[0].partition("/")[2]
    if len(line.words) > 1:
        owner, _, kind = line.words[1].rpartition("/")
        group, version = split_group_version(owner) if owner else (group, version)
    return SubresourceInfo(name, group, version, kind, line.listed("verbs", SUBRESOURCE_VERBS))


def _replacing(line: _Line, definitions: schema.Definitions) -> str:
    """The type of the version that a former one has become."""
    if "removed" not in line.options:
        return ""
    owner, _, kind = line.options["use"].rpartition("/")
    return definitions.name_of(*split_group_version(owner), kind)


def _warning(line: _Line, group: str, version: str, kind: str) -> str:
    options = line.options
    if "deprecated" not in options:
        return ""
    owner, _, replacement = options.get("use", "").rpartition("/")
    use = (owner, replacement) if replacement else None
    return deprecation(group_version(group, version), kind, options["deprecated"], options.get("removed", ""), use)
