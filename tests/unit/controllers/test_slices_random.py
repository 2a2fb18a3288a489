"""Random pods and Services against the planner of slices, whose writes may fail half-way.

Held at every step: no endpoint twice, no slice too large, after enough passes exactly the endpoints that there should
be, and nothing to write once that is so.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tiphys.controllers.slice_packing import Writes
from tiphys.controllers.slice_topology import Topology
from tiphys.controllers.slices import Planner

LIMIT = 4
NODES = tuple(f"n{number}" for number in range(4))
ZONES = ("a", "b", "c")


class World:
    """One Service, its pods, and its slices as the server has them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.nodes = {name: self._node(name, ZONES[number % 3]) for number, name in enumerate(NODES)}
        self.topology = Topology(self.nodes.values)
        self.planner = Planner(self.nodes.get, self.topology, LIMIT)
        self.pods: dict[str, dict[str, Any]] = {}
        self.slices: dict[str, dict[str, Any]] = {}
        self.counter = 0
        spec: dict[str, Any] = {"selector": {"a": "b"}, "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"]}
        spec["ports"] = [{"name": "x", "port": 80, "targetPort": "web", "protocol": "TCP"}]
        meta = {"name": "web", "namespace": "d", "uid": "s", "labels": {}}
        self.service: dict[str, Any] = {"metadata": meta, "spec": spec}

    def _node(self, name: str, zone: str) -> dict[str, Any]:
        status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "2"}}
        return {"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}, "status": status}

    def step(self) -> None:
        """Something happens."""
        doing = self.random.choice(
            (self.add, self.add, self.add, self.remove, self.alter, self.alter, self.change_service, self.interfere)
        )
        doing()

    def add(self) -> None:
        for _ in range(self.random.choice((1, 1, 2, 7))):
            self.counter += 1
            name = f"p{self.counter}"
            meta = {"name": name, "namespace": "d", "uid": name, "labels": {"a": "b"}}
            number = self.random.choice((8080, 8080, 8080, 9090, None))
            ports = [{"name": "web", "containerPort": number}] if number else []
            spec = {"nodeName": self.random.choice(NODES), "containers": [{"name": "c", "ports": ports}]}
            ips = [{"ip": f"10.0.{self.counter >> 8}.{self.counter & 255}"}, {"ip": f"fd00::{self.counter:x}"}]
            status = {"phase": "Running", "podIPs": ips, "conditions": [{"type": "Ready", "status": "True"}]}
            self.pods[name] = {"metadata": meta, "spec": spec, "status": status}

    def remove(self) -> None:
        count = self.random.choice((1, 1, 3, 9)) + len(self.pods) // 4
        for name in self.random.sample(sorted(self.pods), min(len(self.pods), count)):
            del self.pods[name]

    def alter(self) -> None:
        if not self.pods:
            return
        pod = self.pods[self.random.choice(sorted(self.pods))]
        what = self.random.randrange(4)
        if what == 0:
            value = self.random.choice(("True", "False"))
            pod["status"] = {**pod["status"], "conditions": [{"type": "Ready", "status": value}]}
        elif what == 1:
            pod["metadata"] = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
        elif what == 2:
            pod["status"] = {**pod["status"], "phase": self.random.choice(("Running", "Succeeded"))}
        else:
            pod["status"] = {**pod["status"], "podIPs": self.random.choice(([], pod["status"]["podIPs"][:1]))}

    def change_service(self) -> None:
        meta, spec = self.service["metadata"], self.service["spec"]
        what = self.random.randrange(5)
        if what == 0:
            meta = {**meta, "labels": {"team": self.random.choice("xyz")}}
        elif what == 1:
            spec = {**spec, "publishNotReadyAddresses": self.random.random() < 0.5}
        elif what == 2:
            spec = {**spec, "ipFamilies": self.random.choice((["IPv4"], ["IPv6", "IPv4"]))}
        elif what == 3:
            wanted = self.random.choice((None, "PreferSameZone", "PreferSameNode"))
            spec = {**spec, "trafficDistribution": wanted}
        else:
            mode = self.random.choice(({}, {"service.kubernetes.io/topology-mode": "Auto"}))
            meta = {**meta, "annotations": mode}
        self.service = {"metadata": meta, "spec": spec}

    def interfere(self) -> None:
        """Somebody deletes a slice, or empties it."""
        if not self.slices:
            return
        name = self.random.choice(sorted(self.slices))
        if self.random.random() < 0.5:
            del self.slices[name]
        else:
            self.slices[name] = {**self.slices[name], "endpoints": []}

    def plan(self) -> list[Writes]:
        plans = self.planner.plan(self.service, list(self.pods.values()), list(self.slices.values()))
        return [plan.writes for plan in plans]

    def carry_out(self, plans: list[Writes], reliability: float) -> None:
        """Write; each write may be the last one that works."""
        for writes in plans:
            jobs = [("put", each) for each in (*writes.create, *writes.update)]
            for kind, each in [*jobs, *(("delete", each) for each in writes.delete)]:
                if self.random.random() > reliability:
                    return
                self._write(kind, each)

    def _write(self, kind: str, each: Any) -> None:
        meta = dict(each["metadata"])
        if kind == "delete":
            self.slices.pop(meta["name"], None)
            return
        if "name" not in meta:
            self.counter += 1
            meta["name"] = f"web-{self.counter}"
        self.slices[meta["name"]] = {**each, "metadata": meta}

    def check_sizes(self) -> None:
        seen = []
        for held in self.slices.values():
            assert len(held["endpoints"]) <= LIMIT
            seen += [(held["addressType"], each["targetRef"]["name"]) for each in held["endpoints"]]
        assert len(seen) == len(set(seen))

    def check_exact(self) -> None:
        expected, found = set(), set()
        for family in self.service["spec"]["ipFamilies"]:
            for name, pod in self.pods.items():
                ips = [each["ip"] for each in pod["status"]["podIPs"] if (":" in each["ip"]) is (family == "IPv6")]
                if ips and pod["status"]["phase"] == "Running":
                    ports = tuple(each["containerPort"] for each in pod["spec"]["containers"][0]["ports"])
                    expected.add((family, name, tuple(ips), ports, self._conditions(pod)))
        for held in self.slices.values():
            for each in held["endpoints"]:
                ports = tuple(port["port"] for port in held["ports"])
                states = tuple(each["conditions"][key] for key in ("ready", "serving", "terminating"))
                target = each["targetRef"]["name"]
                found.add((held["addressType"], target, tuple(each["addresses"]), ports, states))
        assert found == expected
        assert {held["addressType"] for held in self.slices.values()} == set(self.service["spec"]["ipFamilies"])
        for held in self.slices.values():
            assert {**held["metadata"]["labels"], **self.service["metadata"]["labels"]} == held["metadata"]["labels"]

    def _conditions(self, pod: dict[str, Any]) -> tuple[bool, bool, bool]:
        serving = pod["status"]["conditions"][0]["status"] == "True"
        going = "deletionTimestamp" in pod["metadata"]
        published = bool(self.service["spec"].get("publishNotReadyAddresses"))
        return published or (serving and not going), serving, going

    def check_hints(self) -> None:
        """Every ready endpoint has the hints that its Service's traffic distribution means."""
        mode = (self.service["metadata"].get("annotations") or {}).get("service.kubernetes.io/topology-mode")
        wanted = self.service["spec"].get("trafficDistribution")
        for held in self.slices.values():
            for each in held["endpoints"]:
                if mode is None and each["conditions"]["ready"]:
                    hints = {"forZones": [{"name": each["zone"]}]} if wanted else None
                    if wanted == "PreferSameNode" and hints:
                        hints["forNodes"] = [{"name": each["nodeName"]}]
                    assert each.get("hints") == hints
                if mode is not None and each.get("hints"):
                    assert each["hints"]["forZones"][0]["name"] in ZONES


@pytest.mark.parametrize("seed", range(4))
def test_slices_are_exact_in_the_end_whatever_happens(seed: int) -> None:
    world = World(seed)
    for _ in range(200):
        world.step()
        world.carry_out(world.plan(), 0.8)
        world.check_sizes()
        for _ in range(3):
            world.carry_out(world.plan(), 1.0)
            world.check_sizes()
        assert all(writes == Writes() for writes in world.plan())
        world.check_exact()
        world.check_hints()
