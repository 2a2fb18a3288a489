"""Role-based access control, compiled: a user's decisions are looked up, not worked out, as long as no role or
binding changes.

For each user the rules that bind it are collected once; each (namespace, verb, resource) asked of them is decided
once and kept. Both are dropped when the revision of roles or bindings moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tiphys.apiserver.authz.rules import Rule
from tiphys.apiserver.types import Object, Reader, RequestInfo
from tiphys.base.errors import NotFound
from tiphys.base.identity import User

GROUP = "rbac.authorization.k8s.io"
RESOURCES = ("clusterrolebindings", "rolebindings", "clusterroles", "roles")
DECISIONS = 8192
"""Decisions kept for each user before starting over (paths and namespaces are unbounded)."""
USERS = 4096
"""Users whose rules are kept."""

Subject = tuple[str, str]
"""("User" or "Group", name); service accounts are users."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The rules that one binding gives to one subject. `namespace` is "" for everywhere."""

    namespace: str
    source: str
    """The binding, as audit and SubjectAccessReview name it."""
    rules: tuple[Rule, ...]
    error: str = ""
    """Set when the role does not exist."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding's subject, before its role is looked up."""

    order: int
    namespace: str
    name: str
    subject: Object
    role: Object


@dataclass(frozen=True, slots=True)
class Decision:
    """For one question: the reason why any name is allowed, or the reasons for certain names; else why not."""

    reason: str | None
    names: dict[str, str] = field(default_factory=dict)
    refusal: str = ""


class RbacAuthorizer:
    """Allows what a role bound to the user or one of its groups allows."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._revisions: tuple[int, ...] = ()
        self._bindings: dict[Subject, list[Binding]] = {}
        self._policies: dict[tuple[str, tuple[str, ...]], Policy] = {}

    async def authorize(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        return self.policy(user).decide(info)

    def policy(self, user: User) -> Policy:
        """All that the bindings of now say about a user."""
        revision, reader = self._reader.revision, self._reader
        revisions = tuple([revision(GROUP, plural) for plural in RESOURCES])
        if revisions != self._revisions:
            self._revisions = revisions
            self._bindings = _index(reader)
            self._policies.clear()
        key = (user.name, user.groups)
        policy = self._policies.get(key)
        if policy is None:
            if len(self._policies) >= USERS:
                self._policies.clear()
            policy = self._policies[key] = Policy(list(self._grants(user)))
        return policy

    def rules_for(self, user: User, namespace: str) -> list[Rule]:
        """All rules that bind the user in a namespace ("": cluster-wide ones only)."""
        return [rule for grant in self.policy(user).grants_in(namespace) for rule in grant.rules]

    def role_rules(self, role: Object, namespace: str) -> tuple[Rule, ...]:
        """The rules of a roleRef. Raises NotFound."""
        plural, where = ("roles", namespace) if role.get("kind") == "Role" else ("clusterroles", "")
        obj = self._reader.get(GROUP, plural, where, role.get("name", ""))
        if obj is None:
            name = role.get("name", "")
            details = {"name": name, "group": GROUP, "kind": plural[:-1]}
            raise NotFound(f'{plural[:-1]}.{GROUP} "{name}" not found', details=details)
        return tuple(Rule.of(rule) for rule in obj.get("rules") or ())

    def _grants(self, user: User) -> Iterator[Grant]:
        subjects: list[Subject] = [("User", user.name), *(("Group", group) for group in user.groups)]
        found: dict[int, Binding] = {}
        for subject in subjects:
            for binding in self._bindings.get(subject, ()):
                found.setdefault(binding.order, binding)
        for order in sorted(found):
            yield self._grant(found[order])

    def _grant(self, binding: Binding) -> Grant:
        try:
            rules, error = self.role_rules(binding.role, binding.namespace), ""
        except NotFound as missing:
            rules, error = (), missing.message
        return Grant(binding.namespace, _describe(binding), rules, error)


class Policy:
    """One user's grants and the decisions made from them."""

    def __init__(self, grants: list[Grant]) -> None:
        self._grants = grants
        self._resources: dict[tuple[str, str, str, str, str], Decision] = {}
        self._paths: dict[tuple[str, str], Decision] = {}

    def decide(self, info: RequestInfo) -> tuple[bool, str]:
        if not info.resource_request:
            decision = self._paths.get((info.verb, info.path)) or self._decide_path(info)
        else:
            key = (info.namespace, info.verb, info.group, info.resource, info.subresource)
            decision = self._resources.get(key) or self._decide_resource(key)
        if decision.reason is not None:
            return True, decision.reason
        reason = decision.names.get(info.name) if info.name else None
        return (True, reason) if reason is not None else (False, decision.refusal)

    def grants_in(self, namespace: str) -> list[Grant]:
        return [grant for grant in self._grants if grant.namespace in ("", namespace)]

    def _decide_resource(self, key: tuple[str, str, str, str, str]) -> Decision:
        namespace, verb, group, resource, subresource = key
        names: dict[str, str] = {}
        decision = None
        for grant in self.grants_in(namespace):
            for rule in grant.rules:
                if not rule.matches_resource(verb, group, resource, subresource):
                    continue
                for name in rule.names:
                    names.setdefault(name, _reason(grant))
                if not rule.names and decision is None:
                    decision = Decision(_reason(grant))
        decision = decision or Decision(None, names, self._refusal(namespace))
        if len(self._resources) >= DECISIONS:
            self._resources.clear()
        self._resources[key] = decision
        return decision

    def _decide_path(self, info: RequestInfo) -> Decision:
        decision = Decision(None, refusal=self._refusal(""))
        for grant in self.grants_in(""):
            if any(rule.matches_url(info.verb, info.path) for rule in grant.rules):
                decision = Decision(_reason(grant))
                break
        if len(self._paths) >= DECISIONS:
            self._paths.clear()
        self._paths[info.verb, info.path] = decision
        return decision

    def _refusal(self, namespace: str) -> str:
        errors = list(dict.fromkeys(grant.error for grant in self.grants_in(namespace) if grant.error))
        if not errors:
            return ""
        return f"RBAC: {errors[0] if len(errors) == 1 else '[' + ', '.join(errors) + ']'}"


def _reason(grant: Grant) -> str:
    return f"RBAC: allowed by {grant.source}"


def _index(reader: Reader) -> dict[Subject, list[Binding]]:
    """Bindings by subject; cluster-wide ones come first, as upstream asks them first."""
    index: dict[Subject, list[Binding]] = {}
    order = 0
    for plural in ("clusterrolebindings", "rolebindings"):
        for obj in reader.list(GROUP, plural):
            order += 1
            metadata = obj["metadata"]
            namespace = metadata.get("namespace", "") if plural == "rolebindings" else ""
            for subject in obj.get("subjects") or ():
                key = _subject_key(subject, namespace)
                if key is not None:
                    binding = Binding(order, namespace, metadata["name"], subject, obj["roleRef"])
                    index.setdefault(key, []).append(binding)
    return index


def _subject_key(subject: Object, namespace: str) -> Subject | None:
    kind, name = subject.get("kind", ""), subject.get("name", "")
    if kind != "ServiceAccount":
        return (kind, name) if kind in ("User", "Group") else None
    where = subject.get("namespace") or namespace
    return ("User", f"system:serviceaccount:{where}:{name}") if where else None


def _describe(binding: Binding) -> str:
    subject, namespace = binding.subject, binding.namespace
    kind, name = ("RoleBinding", f"{binding.name}/{namespace}") if namespace else ("ClusterRoleBinding", binding.name)
    who = subject["name"]
    if subject["kind"] == "ServiceAccount":
        who = f"{who}/{subject.get('namespace') or namespace}"
    return f'{kind} "{name}" of {binding.role["kind"]} "{binding.role["name"]}" to {subject["kind"]} "{who}"'
