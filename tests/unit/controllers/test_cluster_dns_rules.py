"""The EndpointSlices of the cluster's name servers, from Node objects."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.cluster_dns import differs, new_service, slices

SERVICE = {**new_service(["10.96.0.10", "fd00::a"]), "metadata": {"name": "kube-dns", "uid": "u1"}}


def node(name: str, *addresses: str, ready: str = "True", serves: str = "true", **labels: str) -> dict[str, Any]:
    marks = {"tiphys.io/cluster-dns": serves, **labels}
    told = [{"type": "Hostname", "address": name}, *({"type": "InternalIP", "address": each} for each in addresses)]
    status = {"addresses": told, "conditions": [{"type": "Ready", "status": ready}]}
    return {"metadata": {"name": name, "labels": marks}, "status": status}


def named(held: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["nodeName"], each["addresses"][0]) for each in held["endpoints"]]


def test_a_service_of_two_families_has_a_slice_of_each() -> None:
    made = slices(SERVICE, [node("b", "10.89.0.3", "fd00::3"), node("a", "10.89.0.2")])
    assert {name: (held["addressType"], named(held)) for name, held in made.items()} == {
        "kube-dns-ipv4": ("IPv4", [("a", "10.89.0.2"), ("b", "10.89.0.3")]),
        "kube-dns-ipv6": ("IPv6", [("b", "fd00::3")]),
    }


def test_of_one_family_it_is_single_stack() -> None:
    spec = new_service(["10.96.0.10"])["spec"]
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == ("SingleStack", ["IPv4"])


def test_only_nodes_with_a_name_server_count() -> None:
    unmarked = node("c", "10.89.0.4")
    unmarked["metadata"]["labels"] = {}
    made = slices(SERVICE, [node("a", "10.89.0.2", serves="false"), node("b"), unmarked])
    assert made["kube-dns-ipv4"]["endpoints"] == []


@pytest.mark.parametrize(("ready", "leaving"), [("Unknown", False), ("False", False), ("True", True)])
def test_a_node_that_is_not_ready_or_goes_is_not_ready(ready: str, leaving: bool) -> None:
    one = node("a", "10.89.0.2", ready=ready)
    if leaving:
        one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    (endpoint,) = slices(SERVICE, [one])["kube-dns-ipv4"]["endpoints"]
    assert endpoint["conditions"]["ready"] is False
    assert "hints" not in endpoint


def test_more_nodes_than_a_slice_takes_have_several() -> None:
    nodes = [node(f"n{number:04}", f"10.1.{number >> 8}.{number & 255}") for number in range(1500)]
    made = slices(SERVICE, nodes)
    sizes = {name: len(held["endpoints"]) for name, held in made.items()}
    assert sizes == {"kube-dns-ipv4": 1000, "kube-dns-ipv4-2": 500, "kube-dns-ipv6": 0}


def test_a_service_with_a_selector_has_none_of_ours() -> None:
    assert slices({**SERVICE, "spec": {**SERVICE["spec"], "selector": {"app": "mine"}}}, [node("a", "10.89.0.2")]) == {}


def test_what_others_added_to_a_slice_makes_no_difference() -> None:
    made = slices(SERVICE, [])["kube-dns-ipv4"]
    stored = {**made, "endpoints": None, "metadata": {**made["metadata"], "generation": 3, "annotations": {"x": "y"}}}
    assert not differs(stored, made)
    assert differs({**stored, "ports": []}, made)
    assert differs({**stored, "metadata": {**stored["metadata"], "labels": {}}}, made)
