"""What families a Service gets, by what it asks for and what the cluster has (KEP-563)."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.kinds.base import Context
from tiphys.api.kinds.core.service import Service, normalize_cluster_ips, settle_families

V4, V6 = "10.96.0.77", "fd00::77"
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
LETTERS = {"4": "IPv4", "6": "IPv6"}
ADDRESSES = {"4": V4, "6": V6}
NOT_DUAL = "this cluster is not configured for dual-stack services"
SECOND_IP = "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"
SECOND_FAMILY = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"


def families(letters: str) -> list[str]:
    return [LETTERS[letter] for letter in letters]


def spec(policy: str = "", of: str = "", ips: str = "", **more: Any) -> dict[str, Any]:
    """A Service's spec; `of` and `ips` tell families by their digits, "N" is headless."""
    listed = ["None"] if ips == "N" else [ADDRESSES[letter] for letter in ips]
    asked = {
        "ipFamilyPolicy": policy,
        "ipFamilies": families(of),
        "clusterIPs": listed,
        "clusterIP": "".join(listed[:1]),
    }
    return {"type": "ClusterIP", "selector": {"a": "b"}, **{k: v for k, v in asked.items() if v}, **more}


def settled(new: dict[str, Any], cluster: str, old: dict[str, Any] | None = None) -> str:
    """Policy and families that come out, or what is wrong."""
    problems = settle_families(new, None if old is None else {"spec": old}, families(cluster))
    if problems:
        return "; ".join(f"{problem.field}: {problem.message.split(': ', 2)[-1]}" for problem in problems)
    return f"{new['ipFamilyPolicy']} {''.join(family[-1] for family in new['ipFamilies'])}"


@pytest.mark.parametrize(
    ("policy", "of", "ips", "on_4", "on_46", "on_64"),
    [
        ("", "", "", "SingleStack 4", "SingleStack 4", "SingleStack 6"),
        ("", "6", "", "spec.ipFamilies[0]: not configured on this cluster", "SingleStack 6", "SingleStack 6"),
        ("", "46", "", f"spec.ipFamilyPolicy: {SECOND_FAMILY}", *[f"spec.ipFamilyPolicy: {SECOND_FAMILY}"] * 2),
        ("", "", "46", None, f"spec.ipFamilyPolicy: {SECOND_IP}", f"spec.ipFamilyPolicy: {SECOND_IP}"),
        (PREFER, "", "", "PreferDualStack 4", "PreferDualStack 46", "PreferDualStack 64"),
        (PREFER, "6", "", "spec.ipFamilies[0]: not configured on this cluster", *["PreferDualStack 64"] * 2),
        (PREFER, "", "6", "spec.clusterIPs[0]: IPv6 is not configured on this cluster", *["PreferDualStack 64"] * 2),
        (PREFER, "", "64", None, "PreferDualStack 64", "PreferDualStack 64"),
        (REQUIRE, "", "", f"spec.ipFamilyPolicy: {NOT_DUAL}", "RequireDualStack 46", "RequireDualStack 64"),
        (REQUIRE, "64", "", None, "RequireDualStack 64", "RequireDualStack 64"),
        (REQUIRE, "", "4", f"spec.ipFamilyPolicy: {NOT_DUAL}", "RequireDualStack 46", "RequireDualStack 46"),
        (REQUIRE, "6", "4", None, *["spec.clusterIPs[0]: expected an IPv6 value as indicated by `ipFamilies[0]`"] * 2),
        ("", "", "N", "SingleStack 4", "SingleStack 4", "SingleStack 6"),
        (PREFER, "", "N", "PreferDualStack 4", "PreferDualStack 46", "PreferDualStack 64"),
    ],
)
def test_a_new_service(policy: str, of: str, ips: str, on_4: str | None, on_46: str, on_64: str) -> None:
    for cluster, wanted in (("4", on_4), ("46", on_46), ("64", on_64)):
        if wanted is not None:
            assert settled(spec(policy, of, ips), cluster) == wanted


@pytest.mark.parametrize("cluster", ["4", "6", "46", "64"])
def test_headless_without_a_selector_has_both_families_whatever_the_cluster_has(cluster: str) -> None:
    both = cluster[0] + ("6" if cluster[0] == "4" else "4")
    assert settled(spec(ips="N", selector=None), cluster) == f"RequireDualStack {both}"
    assert settled(spec(SINGLE, ips="N", selector=None), cluster) == f"SingleStack {cluster[0]}"
    assert settled(spec(of="6", ips="N", selector=None), cluster) == "RequireDualStack 64"


def test_an_external_name_has_no_families() -> None:
    new = spec(type="ExternalName")
    assert settle_families(new, None, families("46")) == []
    assert "ipFamilies" not in new


ONE = spec(SINGLE, "4", "4")
BOTH = spec(REQUIRE, "46", "46")
PREFERS_ONE = spec(PREFER, "4", "4")
PREFERS = spec(PREFER, "46", "46")
RELEASE_IP = "must be 'SingleStack' to release the secondary cluster IP"
RELEASE_FAMILY = "must be 'SingleStack' to release the secondary IP family"


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (ONE, spec(ips="4"), "SingleStack 4"),
        (ONE, spec(PREFER, ips="4"), "PreferDualStack 46"),
        (ONE, spec(REQUIRE, "4", "4"), "RequireDualStack 46"),
        (ONE, spec("", "46", "4"), f"spec.ipFamilyPolicy: {SECOND_FAMILY}"),
        (BOTH, spec(ips="46"), "RequireDualStack 46"),
        (BOTH, spec(SINGLE, "46", "46"), "SingleStack 4"),
        (BOTH, spec(SINGLE, "4", "4"), "SingleStack 4"),
        (BOTH, spec(SINGLE, "46", "4"), "SingleStack 4"),
        (
            BOTH,
            spec(REQUIRE, "4", "4"),
            f"spec.ipFamilyPolicy: {RELEASE_IP}; spec.ipFamilyPolicy: {RELEASE_FAMILY}",
        ),
        (BOTH, spec("", "46", "4"), f"spec.ipFamilyPolicy: {RELEASE_IP}"),
        (PREFERS, spec(SINGLE, "46", "46"), "SingleStack 4"),
        (spec(type="ExternalName"), spec(), "SingleStack 4"),
    ],
)
def test_a_changed_service(old: dict[str, Any], new: dict[str, Any], wanted: str) -> None:
    assert settled(dict(new), "46", old) == wanted


def test_what_prefers_both_is_not_changed_by_a_cluster_that_gets_or_loses_a_family() -> None:
    again = spec(PREFER, "4", "4", selector={"c": "d"})
    assert settled(again, "46", PREFERS_ONE) == "PreferDualStack 4"
    assert settled(spec(PREFER, "46", "46"), "4", PREFERS) == "PreferDualStack 46"
    assert settled(spec(REQUIRE, "4", "4"), "46", PREFERS_ONE) == "RequireDualStack 46"


def test_an_old_clients_single_address_stands_for_the_list() -> None:
    kept: dict[str, Any] = {"clusterIP": V4}
    normalize_cluster_ips(kept, {"clusterIP": V4, "clusterIPs": [V4, V6]})
    assert kept["clusterIPs"] == [V4, V6]
    cleared: dict[str, Any] = {"clusterIPs": [V4]}
    normalize_cluster_ips(cleared, {"clusterIP": V4, "clusterIPs": [V4]})
    assert "clusterIPs" not in cleared
    other: dict[str, Any] = {"clusterIP": V6, "clusterIPs": [V4]}
    normalize_cluster_ips(other, {"clusterIP": V4, "clusterIPs": [V4]})
    assert other["clusterIPs"] == [V6]


def test_an_external_name_has_no_traffic_policy() -> None:
    old = {"metadata": {}, "spec": spec(internalTrafficPolicy="Cluster")}
    new: dict[str, Any] = {"metadata": {}, "spec": {**old["spec"], "type": "ExternalName"}}
    Service().prepare_update(new, old, Context(now=0.0))
    assert "internalTrafficPolicy" not in new["spec"]
    odd: dict[str, Any] = {"metadata": {}, "spec": spec(type="ExternalName", internalTrafficPolicy="Odd")}
    Service().prepare_create(odd, Context(now=0.0))
    assert odd["spec"]["internalTrafficPolicy"] == "Odd"
