"""Which requests a webhook or an admission policy is asked about: rules, selectors, equivalent resources.

Webhooks and policies match alike. Each compiles its rules (`compile_rules`) and selectors (`Selectors`) once, when it
changes; a request is turned into a `Target` once and held against all of them. Source: the API reference,
admissionregistration.k8s.io/v1 (RuleWithOperations, MatchResources).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api import errors
from tiphys.api.catalog import Catalog
from tiphys.api.selectors import LabelSelector, from_object
from tiphys.apiserver.types import Attributes, Object, Reader

Struct = Mapping[str, Any]
Triple = tuple[str, str, str]

_NAMESPACES: Triple = ("", "v1", "namespaces")


@dataclass(frozen=True, slots=True)
class Target:
    """What rules and selectors look at in one request."""

    operation: str
    resource: Triple
    """Group, version, plural, as in the request's path."""
    subresource: str
    kind: Triple
    namespace: str
    """That of the object; a namespace's own name for the namespace itself."""
    name: str
    """"" when the server is to make the name."""
    obj: Object | None
    old: Object | None

    @property
    def of_namespace(self) -> bool:
        """Whether the request is about a Namespace object."""
        return self.resource == _NAMESPACES


@dataclass(frozen=True, slots=True)
class Match:
    """As what a request matched: its own resource and kind, or equivalent ones."""

    resource: Triple
    kind: Triple


@dataclass(frozen=True, slots=True)
class Rule:
    """A RuleWithOperations, with the names that a policy may add."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: frozenset[tuple[str, str]]
    """(plural, subresource); either may be *."""
    scope: str
    names: frozenset[str]

    def matches(self, resource: Triple, target: Target) -> bool:
        """Whether a request would be matched if it were one for `resource`."""
        group, version, plural = resource
        part = target.subresource
        return (
            self._in_scope(resource, target.namespace)
            and ("*" in self.operations or target.operation in self.operations)
            and ("*" in self.groups or group in self.groups)
            and ("*" in self.versions or version in self.versions)
            and any(one in self.resources for one in ((plural, part), ("*", part), (plural, "*"), ("*", "*")))
            and (not self.names or target.name in self.names)
        )

    def _in_scope(self, resource: Triple, namespace: str) -> bool:
        if self.scope == "*":
            return True
        cluster = resource == _NAMESPACES or not namespace
        return cluster if self.scope == "Cluster" else self.scope == "Namespaced" and not cluster


def target_of(attributes: Attributes) -> Target:
    """The request in the terms of rules."""
    info = attributes.info
    resource = (info.group, info.version, info.resource)
    shown = attributes.obj if attributes.obj is not None else attributes.old
    name = info.name or str(((shown or {}).get("metadata") or {}).get("name") or "")
    namespace = name if resource == _NAMESPACES else info.namespace
    return Target(
        attributes.operation,
        resource,
        info.subresource,
        attributes.kind,
        namespace,
        name,
        attributes.obj,
        attributes.old,
    )


def compile_rules(rules: Iterable[Struct] | None) -> tuple[Rule, ...]:
    """Rules of a webhook, resourceRules or excludeResourceRules of a policy."""
    return tuple(_compile(rule) for rule in rules or ())


def _compile(rule: Struct) -> Rule:
    split = [name.partition("/") for name in rule.get("resources") or ()]
    return Rule(
        operations=frozenset(rule.get("operations") or ()),
        groups=frozenset(rule.get("apiGroups") or ()),
        versions=frozenset(rule.get("apiVersions") or ()),
        resources=frozenset((plural, part) for plural, _, part in split),
        scope=rule.get("scope") or "*",
        names=frozenset(rule.get("resourceNames") or ()),
    )


class Equivalents:
    """Resources that show the same objects: other versions, and other groups that share their storage."""

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog
        self._known: Catalog | None = None
        self._found: dict[tuple[Triple, str], tuple[Match, ...]] = {}

    def of(self, resource: Triple, subresource: str) -> tuple[Match, ...]:
        """All but `resource` itself, in the order of discovery."""
        catalog = self._catalog()
        if catalog is not self._known:
            self._known, self._found = catalog, {}
        key = (resource, subresource)
        if key not in self._found:
            self._found[key] = tuple(_equivalents(catalog, resource, subresource))
        return self._found[key]


def _equivalents(catalog: Catalog, resource: Triple, subresource: str) -> Iterable[Match]:
    own = catalog.get(*resource)
    if own is None:
        return
    for one in catalog.resources:
        found = (one.group, one.version, one.plural)
        # Versions that upstream no longer serves exist for old manifests, not for old webhooks.
        if one.legacy or (one.stored_group, one.plural) != (own.stored_group, own.plural) or found == resource:
            continue
        if not subresource:
            yield Match(found, (one.group, one.version, one.kind))
        elif (part := one.subresources.get(subresource)) is not None:
            yield Match(found, (part.group, part.version, part.kind))


def find(rules: Sequence[Rule], match_policy: str, target: Target, equivalents: Equivalents) -> Match | None:
    """The first match: as what was asked for or, with the policy Equivalent, as something that shows the same."""
    for rule in rules:
        if rule.matches(target.resource, target):
            return Match(target.resource, target.kind)
    if match_policy != "Equivalent":
        return None
    others = equivalents.of(target.resource, target.subresource)
    for rule in rules if others else ():
        for other in others:
            if rule.matches(other.resource, target):
                return other
    return None


class Selectors:
    """namespaceSelector and objectSelector of a webhook or of match resources. Raises ValueError for bad ones."""

    def __init__(self, struct: Struct) -> None:
        self._namespace = _selector(struct.get("namespaceSelector"))
        self._object = _selector(struct.get("objectSelector"))

    def select_namespace(self, target: Target, reader: Reader) -> bool:
        """Raises NotFound when the namespace is not there, so that its labels are not known."""
        if self._namespace is None or not (target.namespace or target.of_namespace):
            return True
        return self._namespace.matches(_namespace_labels(target, reader))

    def select_object(self, target: Target) -> bool:
        """Whether the new or the old object has the labels."""
        if self._object is None:
            return True
        return any(obj is not None and self._object.matches(_labels(obj)) for obj in (target.obj, target.old))


def _selector(struct: Struct | None) -> LabelSelector | None:
    """None selects everything."""
    selector = from_object(struct or {})
    return None if selector.empty else selector


def _namespace_labels(target: Target, reader: Reader) -> Mapping[str, str]:
    if target.of_namespace and not target.subresource and target.obj is not None:
        return _labels(target.obj)
    namespace = reader.get("", "namespaces", "", target.namespace)
    if namespace is None:
        raise errors.not_found("", "namespaces", target.namespace)
    return _labels(namespace)


def _labels(obj: Object) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}
