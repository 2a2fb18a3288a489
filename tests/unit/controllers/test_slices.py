from __future__ import annotations

from typing import Any

from tiphys.controllers import endpoints
from tiphys.controllers.slice_packing import Writes
from tiphys.controllers.slice_topology import Topology
from tiphys.controllers.slices import FamilyPlan, Planner


def node(name: str = "n1", zone: str = "", cpu: str = "4") -> dict[str, Any]:
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": cpu}}
    return {"metadata": {"name": name, "labels": labels}, "status": status}


class World:
    """A planner and the nodes that it knows."""

    def __init__(self, *nodes: dict[str, Any], limit: int = 100) -> None:
        self.nodes = {each["metadata"]["name"]: each for each in nodes or (node(),)}
        self.topology = Topology(self.nodes.values)
        self.planner = Planner(self.nodes.get, self.topology, limit)

    def families(self, service: Any, pods: Any, existing: Any = ()) -> list[FamilyPlan]:
        return self.planner.plan(service, pods, existing)

    def plan(self, service: Any, pods: Any, existing: Any = ()) -> Writes:
        (one,) = self.families(service, pods, existing)
        return one.writes


def plan(service: Any, pods: Any, existing: Any = ()) -> Writes:
    return World().plan(service, pods, existing)


def service(**spec: Any) -> dict[str, Any]:
    wanted = {"selector": {"app": "web"}, "clusterIP": "10.96.0.1", "ports": [{"port": 80}], **spec}
    meta = {"name": "web", "namespace": "d", "uid": "s", "labels": {"team": "a"}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": wanted}


def pod(number: int, *, ready: bool = True, deleting: bool = False, ports: Any = (), **spec: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": f"p{number}", "namespace": "d", "uid": f"u{number}", "labels": {"app": "web"}}
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"phase": "Running", "podIP": f"10.0.{number >> 8}.{number & 255}", "conditions": conditions}
    own = {"containers": [{"ports": list(ports)}], "nodeName": "n1", **spec}
    return {"metadata": meta, "spec": own, "status": status}


def stored(writes: Writes) -> list[dict[str, Any]]:
    """The slices after the writes, as the server would have them."""
    return [
        {**each, "metadata": {**each["metadata"], "name": f"web-{number}"}} for number, each in enumerate(writes.create)
    ]


def uids(held: dict[str, Any]) -> set[str]:
    return {each["targetRef"]["uid"] for each in held["endpoints"]}


def test_a_service_without_pods_has_one_empty_slice() -> None:
    writes = plan(service(), [], [])
    assert [each["endpoints"] for each in writes.create] == [[]]
    assert plan(service(), [], stored(writes)) == Writes()
    writes = plan(service(), [pod(1)], stored(writes))
    assert (len(writes.create), len(writes.update), len(writes.delete)) == (0, 1, 0)
    assert writes.update[0]["metadata"]["name"] == "web-0"


def test_an_endpoint_says_where_it_is_and_how_it_is() -> None:
    (made,) = World(node(zone="z1")).plan(service(), [pod(1, hostname="h", subdomain="web")]).create
    assert made["endpoints"] == [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "d", "name": "p1", "uid": "u1"},
            "nodeName": "n1",
            "zone": "z1",
            "hostname": "h",
        }
    ]
    assert made["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
    assert made["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }


def test_a_pod_that_is_going_away_serves_but_is_not_ready_unless_that_is_wanted() -> None:
    going = pod(1, deleting=True)
    (made,) = plan(service(), [going], []).create
    assert made["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
    (made,) = plan(service(publishNotReadyAddresses=True), [going], []).create
    assert made["endpoints"][0]["conditions"] == {"ready": True, "serving": True, "terminating": True}


def test_slices_have_at_most_a_hundred_endpoints_and_gaps_are_filled_first() -> None:
    pods = [pod(number) for number in range(250)]
    first = plan(service(), pods, [])
    assert [len(each["endpoints"]) for each in first.create] == [100, 100, 50]
    slices = stored(first)
    assert plan(service(), pods, slices) == Writes()
    later = plan(service(), [*pods[1:], pod(300), pod(301)], slices)
    assert (len(later.create), len(later.delete)) == (0, 0)
    assert {each["metadata"]["name"] for each in later.update} == {"web-0", "web-2"}
    assert uids(later.update[0]) - uids(slices[0]) == {"u300"}


def test_pods_with_other_numbers_for_a_named_port_are_in_other_slices() -> None:
    named = service(ports=[{"port": 80, "targetPort": "http"}])
    pods = [
        pod(1, ports=[{"name": "http", "containerPort": 8080}]),
        pod(2, ports=[{"name": "http", "containerPort": 9}]),
    ]
    writes = plan(named, pods, [])
    assert sorted(each["ports"][0]["port"] for each in writes.create) == [9, 8080]
    writes = plan(named, pods[:1], stored(writes))
    assert [each["ports"][0]["port"] for each in writes.delete] == [9]


def test_new_labels_of_the_service_reach_its_slices() -> None:
    slices = stored(plan(service(), [pod(1)], []))
    changed = service()
    changed["metadata"]["labels"] = {"team": "b"}
    (updated,) = plan(changed, [pod(1)], slices).update
    assert updated["metadata"]["labels"]["team"] == "b"


def test_endpoints_put_ready_and_unready_pods_of_the_same_ports_together() -> None:
    two = service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 443, "targetPort": 8443}])
    (found,) = endpoints.subsets(two, [pod(1), pod(2, ready=False), pod(3, deleting=True)])
    assert [each["ip"] for each in found["addresses"]] == ["10.0.0.1"]
    assert [each["ip"] for each in found["notReadyAddresses"]] == ["10.0.0.2"]
    assert found["ports"] == [
        {"name": "a", "port": 80, "protocol": "TCP"},
        {"name": "b", "port": 8443, "protocol": "TCP"},
    ]


def test_endpoints_of_a_headless_service_need_no_ports() -> None:
    headless = service(clusterIP="None", ports=[])
    (found,) = endpoints.subsets(headless, [pod(1)])
    assert "ports" not in found
    made = endpoints.wanted(headless, [pod(1)], None)
    assert made is not None
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_endpoints_say_when_they_are_truncated() -> None:
    made = endpoints.wanted(service(), [pod(number) for number in range(1001)], None)
    assert made is not None
    assert len(made["subsets"][0]["addresses"]) == 1000
    assert made["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}
