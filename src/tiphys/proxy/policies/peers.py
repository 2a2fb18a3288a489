"""The sets of addresses that rules refer to: one a selector of pods, one a named port. Pure.

A set is shared by all rules with the same selector, so that a pod that comes or goes is an element in each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tiphys.proxy.policies.facts import Pod
from tiphys.proxy.policies.policy import PeerSelector
from tiphys.proxy.policies.ranges import family_of
from tiphys.proxy.policies.rules import Needs
from tiphys.proxy.policies.ruleset import FAMILIES, peer_set, port_set


class Peers:
    """Who has which address, and the sets that follow. `sets` are filled, their names noted in `touched`."""

    def __init__(self, sets: dict[str, set[str]], touched: set[str]) -> None:
        self._sets, self._touched = sets, touched
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._claims: dict[str, dict[str, Pod]] = {}
        """Pods whose status says that they have the address, by UID."""
        self._claimed: dict[str, tuple[str, ...]] = {}
        self._owners: dict[str, Pod | None] = {}
        """Where this node knows better."""
        self._holders: dict[str, Pod] = {}
        """Who has the address, as it is in the sets."""
        self._in_namespace: dict[str, dict[str, Pod]] = {}
        self._selectors: Counter[PeerSelector] = Counter()
        self._near: dict[str, dict[PeerSelector, None]] = {}
        """Selectors of pods of one namespace ("": of those that are not)."""
        self._named: Counter[tuple[str, str]] = Counter()

    # --- who is where

    def set_claims(self, uid: str, pod: Pod | None) -> None:
        """What a pod's status says of its addresses; None: the pod is gone."""
        addresses = pod.addresses if pod is not None else ()
        before = self._claimed.get(uid, ())
        for address in before:
            if address not in addresses:
                self._claims[address].pop(uid)
                if not self._claims[address]:
                    del self._claims[address]
        if addresses and pod is not None:
            self._claimed[uid] = addresses
            for address in addresses:
                self._claims.setdefault(address, {})[uid] = pod
        else:
            self._claimed.pop(uid, None)
        for address in {*before, *addresses}:
            self._settle(address)

    def set_owner(self, address: str, pod: Pod | None) -> None:
        """This node knows who has the address: `pod`, or None for one that is nobody's peer."""
        self._owners[address] = pod
        self._settle(address)

    def forget_owner(self, address: str) -> None:
        """The address is nobody's on this node."""
        self._owners.pop(address, None)
        self._settle(address)

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        before = self._namespaces.get(name)
        if before == labels:
            return
        for selector in self._near.get("", ()):
            was, now = selector.selects_namespace(name, before), selector.selects_namespace(name, labels)
            if was != now:
                for address, pod in self._in_namespace.get(name, {}).items():
                    if selector.pods.matches(pod.labels):
                        self._put(peer_set(selector, family_of(address)), address, now)
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels

    def _settle(self, address: str) -> None:
        """Bring the sets up to who has the address now."""
        old, new = self._holders.get(address), self._holder(address)
        if old is new or (old is not None and new is not None and old.same_peer(new)):
            if new is not None:
                self._holders[address] = self._in_namespace[new.namespace][address] = new
            return
        was, now = self._memberships(address, old), self._memberships(address, new)
        self._hold(address, old, new)
        for name, element in was - now:
            self._put(name, element, wanted=False)
        for name, element in now - was:
            self._put(name, element, wanted=True)

    def _holder(self, address: str) -> Pod | None:
        if address in self._owners:
            return self._owners[address]
        claims = self._claims.get(address)
        if not claims:
            return None
        return max(claims.values(), key=lambda pod: (not pod.terminating, pod.created, pod.revision))

    def _hold(self, address: str, old: Pod | None, new: Pod | None) -> None:
        if old is not None:
            del self._holders[address], self._in_namespace[old.namespace][address]
            if not self._in_namespace[old.namespace]:
                del self._in_namespace[old.namespace]
        if new is not None:
            self._holders[address] = self._in_namespace.setdefault(new.namespace, {})[address] = new

    def _memberships(self, address: str, pod: Pod | None) -> set[tuple[str, str]]:
        """(set, element) of all that the address is in while `pod` has it."""
        if pod is None:
            return set()
        family = family_of(address)
        labels = self._namespaces.get(pod.namespace)
        found = {
            (peer_set(selector, family), address)
            for selector in (*self._near.get(pod.namespace, ()), *self._near.get("", ()))
            if selector.selects_namespace(pod.namespace, labels) and selector.pods.matches(pod.labels)
        }
        named = ((port.name, port.protocol) for port in pod.ports)
        for port, key in zip(pod.ports, named, strict=True):
            if key in self._named:
                found.add((port_set(*key, family), element(address, port.number)))
        return found

    def _put(self, name: str, element: str, wanted: bool) -> None:
        (self._sets[name].add if wanted else self._sets[name].discard)(element)
        self._touched.add(name)

    # --- which sets there are

    def use(self, needs: Needs) -> None:
        """Have the sets; to be answered by `drop`."""
        for selector in needs.selectors:
            self._selectors[selector] += 1
            if self._selectors[selector] == 1:
                self._near.setdefault(selector.namespace, {})[selector] = None
                self._make((peer_set(selector, family) for family in FAMILIES), self._selected(selector))
        for port in needs.named:
            self._named[port] += 1
            if self._named[port] == 1:
                self._make((port_set(*port, family) for family in FAMILIES), self._with_port(*port))

    def drop(self, needs: Needs) -> None:
        for selector in needs.selectors:
            self._selectors[selector] -= 1
            if not self._selectors[selector]:
                del self._selectors[selector], self._near[selector.namespace][selector]
                self._remove(peer_set(selector, family) for family in FAMILIES)
        for port in needs.named:
            self._named[port] -= 1
            if not self._named[port]:
                del self._named[port]
                self._remove(port_set(*port, family) for family in FAMILIES)

    def _selected(self, selector: PeerSelector) -> Iterator[tuple[str, str]]:
        for namespace in (selector.namespace,) if selector.namespace else tuple(self._in_namespace):
            if selector.selects_namespace(namespace, self._namespaces.get(namespace)):
                for address, pod in self._in_namespace.get(namespace, {}).items():
                    if selector.pods.matches(pod.labels):
                        yield peer_set(selector, family_of(address)), address

    def _with_port(self, name: str, protocol: str) -> Iterator[tuple[str, str]]:
        for address, pod in self._holders.items():
            for port in pod.ports:
                if (port.name, port.protocol) == (name, protocol):
                    yield port_set(name, protocol, family_of(address)), element(address, port.number)

    def _make(self, names: Iterable[str], members: Iterable[tuple[str, str]]) -> None:
        for name in names:
            self._sets[name] = set()
            self._touched.add(name)
        for name, member in members:
            self._sets[name].add(member)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            del self._sets[name]
            self._touched.add(name)


def element(address: str, port: int) -> str:
    """Of the set of a named port."""
    return f"{address} . {port}"
