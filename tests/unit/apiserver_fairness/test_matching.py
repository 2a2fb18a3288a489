"""Which FlowSchema a request is of."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.apiserver.fairness.matching import compiled
from tiphys.apiserver.types import RequestInfo
from tiphys.base.identity import User

ANYTHING = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
PODS = RequestInfo("get", "/api/v1/namespaces/a/pods/p", True, version="v1", namespace="a", resource="pods", name="p")


def schema(name: str, precedence: int = 1000, **rule: Any) -> dict[str, Any]:
    rule.setdefault("subjects", [{"kind": "User", "user": {"name": "*"}}])
    spec = {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": "x"}, "rules": [rule]}
    return {"metadata": {"name": name}, "spec": spec}


JANE = User("jane", groups=("dev",))


def matches(user: User = JANE, info: RequestInfo = PODS, **rule: Any) -> bool:
    return compiled([schema("s", **rule)])[0].matches(user, info)


def test_the_lowest_precedence_comes_first_then_the_name() -> None:
    found = compiled([schema("b", 2), schema("c", 1), schema("a", 2)])
    assert [one.name for one in found] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ({"kind": "User", "user": {"name": "jane"}}, True),
        ({"kind": "User", "user": {"name": "joe"}}, False),
        ({"kind": "Group", "group": {"name": "dev"}}, True),
        ({"kind": "Group", "group": {"name": "*"}}, True),
        ({"kind": "Group", "group": {"name": "ops"}}, False),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}}, False),
    ],
)
def test_subjects(subject: dict[str, Any], expected: bool) -> None:
    assert matches(subjects=[subject], resourceRules=[ANYTHING]) is expected


def test_service_accounts_by_name_or_all_of_a_namespace() -> None:
    account = User("system:serviceaccount:a:robot")
    for name, expected in (("robot", True), ("*", True), ("other", False)):
        subject = {"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": name}}
        assert matches(account, subjects=[subject], resourceRules=[ANYTHING]) is expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"verbs": ["get"]}, True),
        ({"verbs": ["list"]}, False),
        ({"resources": ["pods/log"]}, False),
        ({"apiGroups": ["apps"]}, False),
        ({"namespaces": ["b"]}, False),
        ({"namespaces": ["a"], "clusterScope": False}, True),
    ],
)
def test_rules_of_resources(change: dict[str, Any], expected: bool) -> None:
    assert matches(resourceRules=[{**ANYTHING, **change}]) is expected


def test_requests_without_a_namespace_need_cluster_scope() -> None:
    nodes = RequestInfo("list", "/api/v1/nodes", True, version="v1", resource="nodes")
    assert matches(info=nodes, resourceRules=[ANYTHING])
    assert not matches(info=nodes, resourceRules=[{**ANYTHING, "clusterScope": False}])


@pytest.mark.parametrize(
    ("pattern", "expected"), [("*", True), ("/healthz", True), ("/health", False), ("/healthz/*", True)]
)
def test_rules_of_paths(pattern: str, expected: bool) -> None:
    info = RequestInfo("get", "/healthz/etcd" if pattern.endswith("/*") else "/healthz")
    assert matches(info=info, nonResourceRules=[{"verbs": ["get"], "nonResourceURLs": [pattern]}]) is expected
