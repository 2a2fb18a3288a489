"""From policies, pods and namespaces to the rules that a node needs, kept current change by change. Pure.

    compiler.set_policy(policy); compiler.set_namespace("x", labels); compiler.set_pod(uid, pod)
    compiler.attach(pod, addresses)          # a pod of this node has its addresses
    compiler.settle()
    compiler.ruleset, compiler.touched       # what is wanted, and which parts of it may have changed

Only policies that are about pods of this node become chains, and only the pods that those let pass are kept in sets.
Who has an address: on this node, who was attached last; elsewhere the pod whose status says so, and of several the
one that is not going and was made last: a new pod does not inherit what its address was allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tiphys.proxy.policies import names
from tiphys.proxy.policies.facts import Pod
from tiphys.proxy.policies.groups import Groups
from tiphys.proxy.policies.names import NameServer
from tiphys.proxy.policies.peers import Peers
from tiphys.proxy.policies.policy import DIRECTIONS, EGRESS, Direction, Policy
from tiphys.proxy.policies.ranges import family_of
from tiphys.proxy.policies.ruleset import SILENT, Ruleset


class Compiler:
    """See the module's docstring. What changes is worked out by `settle`, once for all that came before it."""

    def __init__(self, server: NameServer | None = None) -> None:
        """`server` is the node's own name server, if it has one."""
        self._server = server
        self.ruleset = Ruleset()
        self.touched: set[str] = set()
        """Names of chains, sets and maps that may have changed; the reader clears it."""
        self.policies: dict[str, Policy] = {}
        self._by_namespace: dict[str, dict[str, Policy]] = {}
        self._peers = Peers(self.ruleset.sets, self.touched)
        self._groups = Groups(self.ruleset, self.touched, self._peers, self.policies)
        self._attached: dict[str, Pod] = {}
        """Pods of this node by address; they stay until they are released, also when their objects are gone."""
        self._applying: dict[str, dict[Direction, set[str]]] = {}
        """Policies that are about the pod at an address."""
        self._known: dict[str, Pod] = {}
        """All pods, by UID."""
        self._unsettled: set[str] = set()
        self._server_labels: Mapping[str, str] | None = None
        self._changed: set[str] = set()
        """Policies since `settle`."""

    # --- what the API says

    def set_policy(self, key: str, policy: Policy | None) -> None:
        """Add, change or (None) remove a policy."""
        if self.policies.get(key) == policy:
            return
        namespace = key.partition("/")[0]
        here = self._by_namespace.setdefault(namespace, {})
        if policy is None:
            del self.policies[key], here[key]
        else:
            self.policies[key] = here[key] = policy
        if not here:
            del self._by_namespace[namespace]
        self._changed.add(key)
        for address, pod in self._attached.items():
            if pod.namespace == namespace:
                self._apply(address, pod, key, policy)

    def _apply(self, address: str, pod: Pod, key: str, policy: Policy | None) -> None:
        for direction, keys in self._applying[address].items():
            applies = policy is not None and _is_about(policy, pod, direction)
            if applies != (key in keys) or is_unknown(pod):
                (keys.add if applies else keys.discard)(key)
                self._unsettled.add(address)

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """Its labels; None: it is gone."""
        self._peers.set_namespace(name, labels)
        if name == names.NAMESPACE and labels != self._server_labels:
            self._server_labels = labels
            self._unsettled |= self._attached.keys()

    def set_pod(self, uid: str, pod: Pod | None) -> None:
        """Add, change or (None) remove a pod."""
        own = [address for address, one in self._attached.items() if one.uid == uid]
        if pod is None:
            self._known.pop(uid, None)
        else:
            self._known[uid] = pod
            self._place(pod, [address for address in own if self._attached[address].revision <= pod.revision])
        self._peers.set_claims(uid, pod)
        if pod is None:
            for address in own:
                self._peers.set_owner(address, None)

    # --- what the node says

    def attach(self, pod: Pod, addresses: Iterable[str]) -> None:
        """A pod of this node has `addresses`; whoever had them has them no more. Again changes nothing."""
        known = self._known.get(pod.uid)
        latest = known if known is not None and known.revision >= pod.revision else pod
        self._place(latest, [address for address in addresses if not self._is_held(address, latest)])

    def _is_held(self, address: str, pod: Pod) -> bool:
        held = self._attached.get(address)
        return held is not None and held.uid == pod.uid and held.revision >= pod.revision

    def close(self, namespace: str, uid: str, addresses: Iterable[str]) -> None:
        """A pod of which the API knows nothing any more has `addresses` yet: nothing passes while there are policies in
        its namespace."""
        self._place(Pod(uid, namespace, {}, revision=-1), addresses)

    def release(self, uid: str, addresses: Iterable[str]) -> None:
        """A pod's addresses are free again, those of them that another has by now not."""
        for address in addresses:
            if (held := self._attached.get(address)) is not None and held.uid == uid:
                del self._attached[address], self._applying[address]
                self._peers.forget_owner(address)
                self._unsettled.add(address)

    def selects(self, pod: Pod) -> bool:
        """Whether a policy is about the pod."""
        here = self._by_namespace.get(pod.namespace, {})
        return any(policy.pods.matches(pod.labels) for policy in here.values())

    def _place(self, pod: Pod, addresses: Iterable[str]) -> None:
        here = self._by_namespace.get(pod.namespace, {})
        for address in addresses:
            self._attached[address] = pod
            self._peers.set_owner(address, None if pod.finished or is_unknown(pod) else pod)
            self._applying[address] = {
                direction: {key for key, policy in here.items() if _is_about(policy, pod, direction)}
                for direction in DIRECTIONS
            }
            self._unsettled.add(address)

    def settle(self) -> None:
        """Bring `ruleset` up to date."""
        for address in self._unsettled:
            pod = self._attached.get(address)
            for direction in DIRECTIONS:
                self._groups.place(address, direction, self._isolating(address, pod, direction))
        for key in self._changed & self.policies.keys():
            self._groups.refresh(key)
        if self._server is not None and (self._unsettled or self._changed):
            self._silence(self._server)
        self._unsettled.clear()
        self._changed.clear()

    def _silence(self, server: NameServer) -> None:
        """Who must not ask for names."""
        answers: dict[tuple[str, ...], tuple[str, ...]] = {}
        silent: dict[int, set[str]] = {family: set() for family in SILENT}
        for address, pod in self._attached.items():
            keys = self._isolating(address, pod, EGRESS)
            if keys is not None:
                if keys not in answers:
                    policies = (self.policies[key] for key in keys)
                    answers[keys] = names.refused(policies, server, self._server_labels)
                silent[family_of(address)].update(
                    f"{address} . {names.NUMBERS[protocol]}" for protocol in answers[keys]
                )
        for family, name in SILENT.items():
            if silent[family] != self.ruleset.sets[name]:
                self.ruleset.sets[name] = silent[family]
                self.touched.add(name)

    def _isolating(self, address: str, pod: Pod | None, direction: Direction) -> tuple[str, ...] | None:
        """The policies that isolate it; without any of them nothing passes; None: it is not isolated."""
        if pod is None:
            return None
        if is_unknown(pod):
            return () if pod.namespace in self._by_namespace else None
        return tuple(sorted(self._applying[address][direction])) or None


def is_unknown(pod: Pod) -> bool:
    return pod.revision < 0


def _is_about(policy: Policy, pod: Pod, direction: Direction) -> bool:
    return not is_unknown(pod) and policy.allowances(direction) is not None and policy.pods.matches(pod.labels)
