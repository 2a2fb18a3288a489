"""Which requests policies and bindings are for."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.catalog import Catalog, builtin
from tiphys.api.kinds.all import kinds
from tiphys.apiserver.policies.source import Matcher
from tiphys.apiserver.webhooks.matching import Equivalents, Match, Target
from tiphys.base.errors import NotFound

DEPLOYMENTS = ("apps", "v1", "deployments")


class Namespaces:
    """A reader of one namespace."""

    def get(self, group: str, plural: str, namespace: str, name: str) -> Any:
        return {"metadata": {"name": name, "labels": {"env": "prod"}}} if name == "prod" else None


READER: Any = Namespaces()


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return builtin(kinds())


def target(
    resource: tuple[str, str, str] = DEPLOYMENTS,
    *,
    operation: str = "CREATE",
    part: str = "",
    namespace: str = "prod",
    labels: dict[str, str] | None = None,
) -> Target:
    obj = {"metadata": {"name": "a", "labels": labels or {}}}
    return Target(operation, resource, part, (*resource[:2], "Deployment"), namespace, "a", obj, None)


def rule(plural: str = "deployments", **more: Any) -> dict[str, Any]:
    base = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": plural.split(","), "operations": ["CREATE"]}
    return {**base, **more}


@pytest.mark.parametrize(
    ("rules", "one", "matches"),
    [
        ([], target(), True),
        ([rule()], target(), True),
        ([rule()], target(operation="UPDATE"), False),
        ([rule(operations=["*"])], target(operation="DELETE"), True),
        ([rule()], target(part="scale"), False),
        ([rule("deployments/scale")], target(part="scale"), True),
        ([rule("*/scale")], target(part="scale"), True),
        ([rule("deployments/*")], target(), True),
        ([rule("*")], target(part="status"), False),
        ([rule("*/*")], target(part="status"), True),
        ([rule(apiGroups=["*"], apiVersions=["*"])], target(), True),
        ([rule(apiGroups=[""])], target(), False),
        ([rule(resourceNames=["b"])], target(), False),
        ([rule(resourceNames=["b", "a"])], target(), True),
        ([rule(scope="Cluster")], target(), False),
        ([rule(scope="Namespaced")], target(), True),
        ([rule("nodes", apiGroups=[""], scope="Cluster")], target(("", "v1", "nodes"), namespace=""), True),
        ([rule("namespaces", apiGroups=[""], scope="Namespaced")], target(("", "v1", "namespaces")), False),
    ],
)
def test_rules(catalog: Catalog, rules: list[dict[str, Any]], one: Target, matches: bool) -> None:
    matcher, equivalents = Matcher({"resourceRules": rules}), Equivalents(lambda: catalog)
    assert (matcher.match(one, READER, equivalents) is not None) is matches
    if matches:
        assert matcher.possible(one, equivalents)


def test_equivalent_resources(catalog: Catalog) -> None:
    equivalents = Equivalents(lambda: catalog)
    event = target(("events.k8s.io", "v1", "events"))
    rules = [rule("events", apiGroups=[""])]
    found = Matcher({"resourceRules": rules}).match(event, READER, equivalents)
    assert found == Match(("", "v1", "events"), ("", "v1", "Event"))
    exact = Matcher({"resourceRules": rules, "matchPolicy": "Exact"})
    assert exact.match(event, READER, equivalents) is None


def test_a_namespace_that_is_not_there_matters_only_to_what_else_matches(catalog: Catalog) -> None:
    selector = {"matchLabels": {"env": "prod"}}
    matcher, equivalents = (
        Matcher({"resourceRules": [rule()], "namespaceSelector": selector}),
        Equivalents(lambda: catalog),
    )
    assert matcher.match(target(), READER, equivalents)
    assert matcher.match(target(operation="UPDATE", namespace="x"), READER, equivalents) is None
    with pytest.raises(NotFound, match='namespaces "x" not found'):
        matcher.match(target(namespace="x"), READER, equivalents)
