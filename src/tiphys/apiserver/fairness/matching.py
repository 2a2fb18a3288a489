"""Which FlowSchema a request is of: the first, by precedence and then by name, of which one rule matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.apiserver.types import Object, RequestInfo
from tiphys.base.identity import User

ALL = "*"
_ACCOUNT = "system:serviceaccount:"
Test = Callable[[User], bool]


@dataclass(frozen=True, slots=True)
class Schema:
    """A compiled FlowSchema."""

    name: str
    uid: str
    level: str
    distinguisher: str
    """ByUser, ByNamespace or "": what tells its flows apart."""
    rules: tuple[Rule, ...]

    def matches(self, user: User, info: RequestInfo) -> bool:
        return any(rule.matches(user, info) for rule in self.rules)

    def flow(self, user: User, info: RequestInfo) -> str:
        """What requests that belong together have in common."""
        if self.distinguisher == "ByUser":
            return user.name
        return info.namespace if self.distinguisher == "ByNamespace" else ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A PolicyRulesWithSubjects."""

    subjects: tuple[Test, ...]
    resources: tuple[Mapping[str, Any], ...]
    paths: tuple[Mapping[str, Any], ...]

    def matches(self, user: User, info: RequestInfo) -> bool:
        if not any(test(user) for test in self.subjects):
            return False
        if info.resource_request:
            return any(_resource(rule, info) for rule in self.resources)
        return any(_has(rule["verbs"], info.verb) and _path(rule["nonResourceURLs"], info.path) for rule in self.paths)


def compiled(objects: Iterable[Object]) -> list[Schema]:
    """FlowSchemas in the order in which they are tried."""
    ordered = sorted(objects, key=lambda obj: (obj["spec"].get("matchingPrecedence", 0), obj["metadata"]["name"]))
    return [_schema(obj) for obj in ordered]


def _schema(obj: Object) -> Schema:
    spec, metadata = obj["spec"], obj["metadata"]
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    distinguisher = (spec.get("distinguisherMethod") or {}).get("type", "")
    rules = tuple(_rule(rule) for rule in spec.get("rules") or ())
    return Schema(metadata["name"], metadata.get("uid", ""), level, distinguisher, rules)


def _rule(rule: Mapping[str, Any]) -> Rule:
    tests = tuple(map(_subject, rule.get("subjects") or ()))
    return Rule(tests, tuple(rule.get("resourceRules") or ()), tuple(rule.get("nonResourceRules") or ()))


def _subject(subject: Mapping[str, Any]) -> Test:
    kind = subject.get("kind")
    if kind == "ServiceAccount":
        account = subject.get("serviceAccount") or {}
        prefix, name = f"{_ACCOUNT}{account.get('namespace', '')}:", account.get("name", "")
        if name == ALL:
            return lambda user: user.name.startswith(prefix)
        return lambda user: user.name == prefix + name
    name = (subject.get("user" if kind == "User" else "group") or {}).get("name", "")
    if name == ALL:
        return lambda user: True
    if kind == "User":
        return lambda user: user.name == name
    return lambda user: name in user.groups


def _resource(rule: Mapping[str, Any], info: RequestInfo) -> bool:
    what = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if not (_has(rule["verbs"], info.verb) and _has(rule["resources"], what) and _has(rule["apiGroups"], info.group)):
        return False
    if not info.namespace:
        return bool(rule.get("clusterScope"))
    return _has(rule.get("namespaces") or (), info.namespace)


def _has(values: Iterable[str], value: str) -> bool:
    return value in values or list(values) == [ALL]


def _path(patterns: Iterable[str], path: str) -> bool:
    for pattern in patterns:
        if pattern in (ALL, path) or path.startswith(pattern.removesuffix("*").removesuffix("/") + "/"):
            return True
    return False
