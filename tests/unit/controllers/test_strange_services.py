"""Objects that no server of today would store must not stop the controllers of Services."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers import endpoints, load_balancers
from tiphys.controllers.address_pool import AddressPool
from tiphys.controllers.load_balancers import NoAddress
from tiphys.controllers.mirrored_slices import mirror, mirrored
from tiphys.controllers.node_ipam import ranges_of
from tiphys.controllers.service_cidr import address_of, holding, networks, removable
from tiphys.controllers.slice_topology import Topology
from tiphys.controllers.slices import Planner, families_of

BARE: dict[str, Any] = {"metadata": {"name": "web", "namespace": "d", "uid": "s"}}
EMPTY_PARTS = [{}, {"spec": None}, {"spec": {}}, {"spec": {"ports": None, "selector": None, "ipFamilies": []}}]
PODS: list[dict[str, Any]] = [
    {"metadata": {"name": "a", "namespace": "d", "uid": "a"}},
    {"metadata": {"name": "b", "namespace": "d", "uid": "b"}, "status": {"podIP": "nonsense"}},
    {
        "metadata": {"name": "c", "namespace": "d", "uid": "c"},
        "spec": {"nodeName": "n"},
        "status": {"podIP": "010.0.0.9"},
    },
    {
        "metadata": {"name": "d", "namespace": "d"},
        "spec": None,
        "status": {"podIPs": [{"ip": None}, {}], "podIP": "::1"},
    },
]
SLICES: list[dict[str, Any]] = [
    {"metadata": {"name": "x", "ownerReferences": [{"uid": "s", "kind": "Service", "apiVersion": "v1"}]}},
    {"metadata": {"name": "y"}, "addressType": "IP", "endpoints": None, "ports": None},
    {
        "metadata": {"name": "z", "ownerReferences": [{"uid": "s", "kind": "Service", "apiVersion": "v1"}]},
        "addressType": "IPv4",
        "endpoints": [{"addresses": None, "conditions": None, "hints": {"forZones": None}, "targetRef": None}, {}],
        "ports": [{"port": None, "name": None}],
    },
]


@pytest.mark.parametrize("part", EMPTY_PARTS)
@pytest.mark.parametrize("mode", ["", "Auto"])
def test_slices_and_endpoints_of_strange_services(part: dict[str, Any], mode: str) -> None:
    notes = {"service.kubernetes.io/topology-mode": mode} if mode else None
    service = {**BARE, "metadata": {**BARE["metadata"], "annotations": notes}, **part}
    planner = Planner(lambda name: BARE if name == "n" else None, Topology(lambda: [BARE, {"metadata": {}}]))
    plans = planner.plan(service, PODS, SLICES)
    assert [plan.family for plan in plans] == [*families_of(service), ""]
    assert any("Node  Not Found" in problem for plan in plans for problem in plan.problems)
    assert (
        endpoints.wanted(service, PODS, {"metadata": {"name": "web"}, "subsets": [{}, {"addresses": None}]}) is not None
    )
    assert endpoints.wanted(service, PODS, None) is not None


def test_an_address_with_leading_zeros_is_written_as_everybody_writes_it() -> None:
    service = {**BARE, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}
    (plan,) = Planner(lambda name: BARE, Topology(list)).plan(service, PODS, [])
    assert [each["addresses"] for held in plan.writes.create for each in held["endpoints"]] == [["10.0.0.9"]]
    made = endpoints.wanted(service, PODS, None)
    assert made is not None
    assert [each["ip"] for each in made["subsets"][0]["notReadyAddresses"]] == ["10.0.0.9"]


def test_endpoints_with_strange_addresses_are_mirrored_as_far_as_they_make_sense() -> None:
    subsets = [{}, {"addresses": [{"ip": "x"}, {"ip": "10.0.0.1", "hostname": ""}, {}], "ports": [{"port": 1}]}]
    found = mirror({**BARE, "subsets": subsets}, SLICES)
    assert [each["endpoints"] for each in found.writes.create + found.writes.update if each["endpoints"]] == [
        [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]
    ]
    message = "Skipped 2 invalid IP addresses when mirroring to EndpointSlices"
    assert found.events == [("Warning", "InvalidIPAddress", message)]
    assert mirrored({"metadata": {"name": "x", "labels": None, "annotations": None}})
    assert mirror({**BARE, "subsets": None}, []).writes.create == []


def test_load_balancers_of_strange_services() -> None:
    pool = AddressPool.parse("10.0.0.1-10.0.0.2")
    status = {"loadBalancer": {"ingress": [{"hostname": "a"}, {"ip": "10.0.0.2"}, {}]}}
    service = {**BARE, "spec": {"type": "LoadBalancer"}, "status": status}
    assert load_balancers.addresses_of(service) == ["10.0.0.2"]
    assert load_balancers.choose(service, pool, ["10.0.0.2"], set()) == ["10.0.0.2"]
    six = {**BARE, "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv6"]}}
    with pytest.raises(NoAddress, match="no IPv6 addresses"):
        load_balancers.choose(six, pool, [], set())
    assert not load_balancers.wants(BARE)
    assert not load_balancers.changed(BARE, {**BARE, "spec": None})
    assert load_balancers.node_set([{"metadata": {"name": "n", "labels": {load_balancers.EXCLUDED: "odd"}}}]) == {}


def test_strange_ranges() -> None:
    cidr = {"metadata": {"name": "x"}, "spec": {"cidrs": ["nonsense", "10.0.0.0/30", None]}}
    assert [str(each) for each in networks(cidr)] == ["10.0.0.0/30"]
    assert networks({"metadata": {"name": "y"}}) == []
    managed = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    assert address_of({"metadata": {"name": "nonsense", "labels": managed}}) is None
    address = address_of({"metadata": {"name": "10.0.0.1", "labels": managed}})
    assert address is not None
    assert holding([cidr], address) == ["x"]
    assert not removable(cidr, [cidr], [address])
    assert removable({"metadata": {"name": "y"}}, [cidr], [address])
    node = {"metadata": {"name": "n"}, "spec": {"podCIDRs": ["nonsense", "10.1.0.9/24"]}}
    assert [str(each) for each in ranges_of(node)] == ["10.1.0.0/24"]
