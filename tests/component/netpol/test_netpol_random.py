"""Random policies over upstream's matrix: what the rules let pass is what the API promises, and however the rules came
about, they are those of a fresh start, from which the kernel's are reached by what the differences say."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from netpol_world import KernelTable, Packet, namespace, passes, pod, policy, promised
from tiphys.proxy.policies import diff
from tiphys.proxy.policies.adopt import adopted
from tiphys.proxy.policies.compiler import Compiler
from tiphys.proxy.policies.facts import pod_of, reduced
from tiphys.proxy.policies.policy import policy_of
from tiphys.proxy.policies.ruleset import Ruleset

Object = dict[str, Any]
SPACES, NAMES = "xyz", "abc"
CHANCE = random.Random(6)
OUTSIDE = "192.168.7.7"


class World:
    """Nine pods on two nodes; this node is n1."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.spaces = {name: namespace(name, {"ns": name}) for name in SPACES}
        self.pods: dict[str, Object] = {}
        self.policies: dict[str, Object] = {}
        self.revision = 1
        for row, space in enumerate(SPACES):
            for column, name in enumerate(NAMES):
                addresses = [f"10.0.{row}.{column + 1}", f"fd00::{row + 1}:{column + 1}"]
                node = self.random.choice(("n1", "n2"))
                self.pods[f"{space}-{name}"] = pod(space, name, addresses, node=node)

    def next(self) -> int:
        self.revision += 1
        return self.revision

    def local(self) -> list[Object]:
        return [one for one in self.pods.values() if one["spec"]["nodeName"] == "n1"]

    def selector(self, key: str, values: str) -> Object:
        kind = self.random.randrange(6)
        value = self.random.choice(values)
        if kind == 0:
            return {}
        if kind < 3:
            return {"matchLabels": {key: value}}
        operator = ("In", "NotIn", "Exists", "DoesNotExist")[self.random.randrange(4)]
        listed = {"values": self.random.sample(values, 2)} if operator in ("In", "NotIn") else {}
        return {"matchExpressions": [{"key": self.random.choice((key, "extra")), "operator": operator, **listed}]}

    def peer(self) -> Object:
        kind = self.random.randrange(5)
        if kind == 0:
            return {"podSelector": self.selector("pod", NAMES)}
        if kind == 1:
            return {"namespaceSelector": self.selector("ns", SPACES)}
        if kind == 2:
            return {"namespaceSelector": self.selector("ns", SPACES), "podSelector": self.selector("pod", NAMES)}
        if kind == 3:
            row = self.random.randrange(3)
            cut = [f"10.0.{row}.{self.random.randrange(4)}/32", f"10.0.{row}.2/31"][: self.random.randrange(3)]
            return {"ipBlock": {"cidr": self.random.choice((f"10.0.{row}.0/24", "0.0.0.0/0")), "except": cut}}
        return {"ipBlock": {"cidr": self.random.choice(("fd00::/64", "fd00::2:0/112")), "except": ["fd00::2:2/127"]}}

    def port(self) -> Object:
        protocol = self.random.choice(("TCP", "TCP", "UDP", "SCTP"))
        kind = self.random.randrange(4)
        if kind == 0:
            return {"protocol": protocol}
        if kind == 1:
            return {"protocol": protocol, "port": 80, "endPort": self.random.choice((80, 81, 90))}
        if kind == 2:
            return {"protocol": protocol, "port": self.random.choice(("serve-80-tcp", "serve-81-tcp", "serve-80-udp"))}
        return {"port": self.random.choice((80, 81))}

    def rule(self, field: str) -> Object:
        rule: Object = {}
        if count := self.random.randrange(4):
            rule[field] = [self.peer() for _ in range(count)]
        if count := self.random.randrange(3):
            rule["ports"] = [self.port() for _ in range(count)]
        return rule

    def new_policy(self, name: str) -> Object:
        spec: Object = {"podSelector": self.selector("pod", NAMES)}
        types = self.random.choice((None, ["Ingress"], ["Egress"], ["Ingress", "Egress"]))
        if types:
            spec["policyTypes"] = types
        spec["ingress"] = [self.rule("from") for _ in range(self.random.randrange(3))]
        spec["egress"] = [self.rule("to") for _ in range(self.random.randrange(3))]
        return policy(self.random.choice(SPACES), name, self.next(), **spec)

    def packets(self) -> list[Packet]:
        found = []
        for family in (0, 1):
            here = [one["status"]["podIPs"][family]["ip"] for one in self.pods.values() if one["status"]["podIPs"]]
            for source in (*here, *([] if family else [OUTSIDE])):
                for target in (*here, *([] if family else [OUTSIDE])):
                    protocol, port = self.random.choice((("TCP", 80), ("TCP", 81), ("UDP", 80), ("SCTP", 80)))
                    found.append(Packet(source, target, protocol, port))
        return found


class Node:
    """The compiler fed like the enforcer feeds it, and a kernel that carries out transactions."""

    def __init__(self) -> None:
        self.compiler = Compiler()
        self.applied = Ruleset()
        self.kernel = KernelTable()

    def space(self, name: str, obj: Object | None) -> None:
        self.compiler.set_namespace(name, obj["metadata"]["labels"] if obj else None)

    def pod(self, uid: str, obj: Object | None) -> None:
        found = pod_of(reduced(obj)) if obj else None
        self.compiler.set_pod(uid, found)
        if found is not None and obj is not None and obj["spec"]["nodeName"] == "n1" and found.addresses:
            self.compiler.attach(pod_of(obj), found.addresses)

    def policy(self, obj: Object, *, gone: bool = False) -> None:
        parsed = policy_of(obj)
        self.compiler.set_policy(parsed.key, None if gone else parsed)

    def settle(self, killed: float = 0.0) -> Ruleset:
        """Bring the kernel up to date; with the probability `killed` the process is killed in between each time."""
        compiler = self.compiler
        compiler.settle()
        for lines in diff.changes("t", self.applied, compiler.ruleset, compiler.touched):
            if CHANCE.random() < killed:
                return self.restart()
            self.kernel.carry_out(lines)
        diff.advance(self.applied, compiler.ruleset, compiler.touched)
        compiler.touched.clear()
        return compiler.ruleset

    def restart(self) -> Ruleset:
        """Another process that knows the same takes over what is in the kernel."""
        self.applied = adopted(self.kernel.entries())
        for one in (self.applied, self.compiler.ruleset):
            self.compiler.touched |= {*one.chains, *one.sets, *one.maps}
        return self.settle()


def fresh(world: World) -> Ruleset:
    """The rules of a process that starts now."""
    node = Node()
    for obj in world.policies.values():
        node.policy(obj)
    for name, space in world.spaces.items():
        node.space(name, space)
    for uid, one in world.pods.items():
        node.pod(uid, one)
    return node.settle()


def step(world: World, node: Node) -> None:
    """Something happens."""
    roll, chance = world.random.randrange(10), world.random
    if roll < 4:
        name = f"p{chance.randrange(6)}"
        old = world.policies.pop(name, None)
        if old is not None:
            node.policy(old, gone=True)
        if old is None or chance.random() < 0.5:
            world.policies[name] = world.new_policy(name)
            node.policy(world.policies[name])
    elif roll < 6:
        uid = chance.choice(sorted(world.pods))
        changed = copy.deepcopy(world.pods[uid])
        changed["metadata"]["labels"] = {"pod": chance.choice(NAMES)} | (
            {"extra": "1"} if chance.random() < 0.3 else {}
        )
        changed["metadata"]["resourceVersion"] = str(world.next())
        world.pods[uid] = changed
        node.pod(uid, changed)
    elif roll < 8:
        name = chance.choice(SPACES)
        world.spaces[name] = namespace(name, {"ns": chance.choice(SPACES)}, world.next())
        node.space(name, world.spaces[name])
    else:
        replace_pod(world, node)


def replace_pod(world: World, node: Node) -> None:
    """A pod ends and another one, of other labels and name, gets its addresses."""
    uid = world.random.choice(sorted(world.pods))
    old = world.pods.pop(uid)
    addresses = [one["ip"] for one in old["status"]["podIPs"]]
    name = f"r{world.next()}"
    new = pod(
        world.random.choice(SPACES),
        name,
        addresses,
        {"pod": world.random.choice(NAMES)},
        node=old["spec"]["nodeName"],
        revision=world.next(),
    )
    new["metadata"]["creationTimestamp"] = f"2026-01-01T00:{world.revision // 60:02}:{world.revision % 60:02}Z"
    world.pods[new["metadata"]["uid"]] = new
    both: list[tuple[str, Object | None]] = [(uid, None), (new["metadata"]["uid"], new)]
    world.random.shuffle(both)
    for one, obj in both:
        node.pod(one, obj)
    node.compiler.release(uid, addresses)


@pytest.mark.parametrize("seed", range(30))
def test_rules_let_pass_what_the_api_promises_whatever_happened_before(seed: int) -> None:
    world, node = World(seed), Node()
    for name, space in world.spaces.items():
        node.space(name, space)
    for uid, one in world.pods.items():
        node.pod(uid, one)
    for _ in range(12):
        for _ in range(world.random.randrange(1, 4)):
            step(world, node)
        rules = node.settle(killed=0.3)
        assert node.kernel.is_like(rules)
        assert rules == fresh(world)
        here = {one["ip"] for pod in world.local() for one in pod["status"]["podIPs"]}
        for packet in world.packets():
            expected = promised(packet, world.policies.values(), world.pods.values(), world.spaces.values())
            if {packet.source, packet.target} <= here | {OUTSIDE}:
                assert passes(packet, rules) == expected, packet
            elif expected:
                assert passes(packet, rules), packet
