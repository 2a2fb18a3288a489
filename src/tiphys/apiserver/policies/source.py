"""The policies that are in force: those with a binding, compiled once for each change of any of them.

`Policies.concerning` says which of them a request may be for. Requests of one sort (resource, operation, namespaced or
not) may be for the same ones, so that the answer is kept, and a server without policies pays a comparison of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tiphys.api.catalog import Catalog
from tiphys.apiserver.policies.compiled import Program, compile_policy
from tiphys.apiserver.types import Attributes, Reader
from tiphys.apiserver.webhooks.matching import (
    Equivalents,
    Match,
    Selectors,
    Target,
    compile_rules,
    find,
    target_of,
)

Struct = Mapping[str, Any]

GROUP = "admissionregistration.k8s.io"
_MOST_SORTS = 4096
_EXEMPT = frozenset(
    (GROUP, f"{kind}admission{what}") for kind in ("validating", "mutating") for what in ("policies", "policybindings")
) | frozenset(
    [
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    ]
)
"""What no policy is asked about: policies themselves, for a bad one could not be taken away, and reviews."""


class Matcher:
    """MatchResources: the constraints of a policy or of a binding."""

    def __init__(self, struct: Struct) -> None:
        self._rules = compile_rules(struct.get("resourceRules"))
        self._excluded = compile_rules(struct.get("excludeResourceRules"))
        self._anonymous = tuple(replace(rule, names=frozenset()) for rule in self._rules)
        self._policy = struct.get("matchPolicy") or "Equivalent"
        self._selectors = Selectors(struct)

    def possible(self, target: Target, equivalents: Equivalents) -> bool:
        """Whether some request of this sort matches, whatever its names and labels are."""
        return not self._rules or find(self._anonymous, self._policy, target, equivalents) is not None

    def match(self, target: Target, reader: Reader, equivalents: Equivalents) -> Match | None:
        """As what the request matches; without rules all do. Raises NotFound for a namespace that is not there."""
        if self._excluded and find(self._excluded, self._policy, target, equivalents) is not None:
            return None
        found: Match | None = Match(target.resource, target.kind)
        if self._rules:
            found = find(self._rules, self._policy, target, equivalents)
        if found is None or not self._selectors.select_object(target):
            return None
        return found if self._selectors.select_namespace(target, reader) else None


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """One binding of a policy."""

    name: str
    matcher: Matcher | None
    param_ref: Struct | None
    actions: Sequence[str]


class Policy:
    """One policy with its bindings; its expressions are compiled when the first request matches."""

    def __init__(self, obj: Struct, bindings: Sequence[Binding]) -> None:
        self.name: str = obj["metadata"]["name"]
        self.identity = identity(obj)
        self.bindings = bindings
        spec: Struct = obj.get("spec") or {}
        self._spec = spec
        self.matcher = Matcher(spec.get("matchConstraints") or {})
        self.param_kind: Struct | None = spec.get("paramKind")
        self.fails_open = spec.get("failurePolicy") == "Ignore"
        self.reinvoked = spec.get("reinvocationPolicy") == "IfNeeded"

    @cached_property
    def program(self) -> Program:
        return compile_policy(self._spec)

    def bound(self, bindings: Sequence[Binding]) -> Policy:
        """The same policy with other bindings; what is compiled stays."""
        self.bindings = bindings
        return self


def identity(obj: Struct) -> tuple[str, int]:
    """Tells one state of a policy's spec from others."""
    return str(obj["metadata"].get("uid")), int(obj["metadata"].get("generation") or 0)


class Policies:
    """Those of one kind, by name: `kind` is validating or mutating."""

    def __init__(self, reader: Reader, kind: str, catalog: Callable[[], Catalog]) -> None:
        self._reader, self._catalog = reader, catalog
        self._plural, self._bindings_plural = f"{kind}admissionpolicies", f"{kind}admissionpolicybindings"
        self.equivalents = Equivalents(catalog)
        self._revisions = (-1, -1)
        self._policies: tuple[Policy, ...] = ()
        self._known: Catalog | None = None
        self._concerning: dict[Any, tuple[Policy, ...]] = {}

    def concerning(self, attributes: Attributes) -> tuple[Target | None, tuple[Policy, ...]]:
        """The policies that a request may be for, in the order of their names."""
        reader = self._reader
        revisions = (reader.revision(GROUP, self._plural), reader.revision(GROUP, self._bindings_plural))
        if revisions != self._revisions:
            self._policies, self._revisions, self._concerning = self._load(), revisions, {}
        info = attributes.info
        if not self._policies or (info.group, info.resource) in _EXEMPT:
            return None, ()
        target = target_of(attributes)
        return target, self._possible(target)

    def _possible(self, target: Target) -> tuple[Policy, ...]:
        catalog = self._catalog()
        if catalog is not self._known or len(self._concerning) > _MOST_SORTS:
            self._known, self._concerning = catalog, {}
        sort = (target.resource, target.subresource, target.operation, bool(target.namespace))
        found = self._concerning.get(sort)
        if found is None:
            found = tuple(one for one in self._policies if one.matcher.possible(target, self.equivalents))
            self._concerning[sort] = found
        return found

    def _load(self) -> tuple[Policy, ...]:
        bindings: dict[str, list[Binding]] = {}
        for obj in sorted(self._reader.list(GROUP, self._bindings_plural), key=_name):
            spec: Struct = obj.get("spec") or {}
            bindings.setdefault(spec.get("policyName") or "", []).append(_binding(_name(obj), spec))
        known = {one.identity: one for one in self._policies}
        policies = []
        for obj in sorted(self._reader.list(GROUP, self._plural), key=_name):
            if bound := bindings.get(_name(obj)):
                before = known.get(identity(obj))
                policies.append(Policy(obj, bound) if before is None else before.bound(bound))
        return tuple(policies)


def _name(obj: Struct) -> str:
    return str(obj["metadata"]["name"])


def _binding(name: str, spec: Struct) -> Binding:
    resources = spec.get("matchResources")
    return Binding(
        name,
        None if resources is None else Matcher(resources),
        spec.get("paramRef"),
        tuple(spec.get("validationActions") or ()),
    )
