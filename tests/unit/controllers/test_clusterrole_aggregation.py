from __future__ import annotations

from typing import Any

from tiphys.controllers.clusterrole_aggregation import rules

PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
NODES = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}
PATHS = {"nonResourceURLs": ["/x"], "verbs": ["get"]}


def role(name: str, labels: dict[str, str], *given: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "rules": list(given)}


def aggregated(*labels: str) -> dict[str, Any]:
    selectors = [{"matchLabels": {label: "yes"}} for label in labels]
    return {
        **role("all", dict.fromkeys(labels, "yes"), PODS),
        "aggregationRule": {"clusterRoleSelectors": selectors},
    }


def test_rules_come_selector_by_selector_role_by_role_and_once() -> None:
    made = aggregated("one", "two")
    first = role("z", {"one": "yes"}, PODS, PODS, NODES)
    second = role("a", {"two": "yes"}, NODES, {**PATHS, "resources": None})
    third = role("b", {"one": "yes", "two": "yes"}, PATHS)
    assert rules(made, [first, second, third, made]) == [PATHS, PODS, NODES]


def test_a_role_is_no_part_of_itself_and_nothing_matches_nothing() -> None:
    made = aggregated("one")
    assert rules(made, [made, role("a", {"one": "no"}, PODS)]) == []
