"""Gives containers CPUs and memory of their own, near to each other and to their devices: when a pod is admitted.

Nothing here waits but for files. What is given is on disk before the pod's first container is made. Other providers of
hints (device plugins) are registered by whoever makes this; they ask `affinity` where a container goes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from tiphys.base.errors import Permanent, TiphysError
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.cpusets import format_cpus, parse_cpus
from tiphys.kubelet.limits import Assigned
from tiphys.kubelet.machine import read_machine
from tiphys.kubelet.managers.cpus import Misaligned, Options, StaticCpus, WrongState, exclusive_cpus
from tiphys.kubelet.managers.hints import NONE, Hints, Policy
from tiphys.kubelet.managers.layout import Layout, read_layout
from tiphys.kubelet.managers.memory import StaticMemory, wanted_memory
from tiphys.kubelet.managers.options import cpu_options, prefers_closest, reserved_memory
from tiphys.kubelet.managers.picking import pick
from tiphys.kubelet.managers.state_files import CPUS, MEMORY, load_cpus, load_memory, save_cpus, save_memory
from tiphys.kubelet.node_resources import capacity, kept_for_eviction, reserved
from tiphys.kubelet.podspec import Object, init_containers, main_containers, uid_of
from tiphys.kubelet.resources import containers_total, zero

log = logging.getLogger(__name__)

Provider = Callable[[Object, Object], Hints]
"""(pod, container) -> which NUMA nodes would do for what it asks for."""

_NOWHERE = ("TopologyAffinityError", "Resources cannot be allocated with Topology locality")


class Managers:
    """Of one node. Raises Permanent for a configuration or a state on disk that does not fit."""

    def __init__(self, config: KubeletConfig, layout: Callable[[], Layout] = read_layout) -> None:
        self._config = config
        self._root = config.root_dir
        self._providers: list[Provider] = []
        self._affinity: dict[tuple[str, str], frozenset[int] | None] = {}
        self.cpu_manager: StaticCpus | None = None
        self.memory_manager: StaticMemory | None = None
        self.policy = Policy()
        options = cpu_options(config)
        if config.memory_manager_policy not in ("None", "Static"):
            raise Permanent(f'unknown policy: "{config.memory_manager_policy}"')
        if self.active:
            self._begin(layout(), options)

    @property
    def active(self) -> bool:
        """Whether there is anything to do at all."""
        config = self._config
        policies = (config.cpu_manager_policy, config.memory_manager_policy, config.topology_manager_policy)
        return any(policy.lower() != NONE for policy in policies)

    def _begin(self, layout: Layout, options: Options) -> None:
        config = self._config
        if config.topology_manager_policy != NONE:
            distances = layout.distances if prefers_closest(config, len(layout.nodes)) else None
            self.policy = Policy(config.topology_manager_policy, layout.nodes, distances)
        try:
            if config.cpu_manager_policy == "static":
                self.cpu_manager = self._cpus(layout, options)
            if config.memory_manager_policy == "Static":
                self.memory_manager = StaticMemory(layout, self._reserved_memory(layout))
                load_memory(self._root / MEMORY, "Static", self.memory_manager)
        except (WrongState, ValueError) as error:
            raise Permanent(f"resource managers: {error}; drain the node and remove the state file") from error
        self._save()

    def _cpus(self, layout: Layout, options: Options) -> StaticCpus:
        own = layout.all_cpus
        if self._config.reserved_system_cpus:
            kept = parse_cpus(self._config.reserved_system_cpus) & own
        else:
            amount = reserved(self._config).get("cpu")
            count = -(-amount.milli // 1000) if amount is not None else 0
            if not count:
                text = "the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero"
                raise Permanent(f"[cpumanager] {text}")
            kept = pick(layout, own, count)
        made = StaticCpus(layout, kept, options)
        load_cpus(self._root / CPUS, "static", made)
        made.check()
        return made

    def _reserved_memory(self, layout: Layout) -> dict[int, dict[str, int]]:
        whole = capacity(self._config, read_machine(self._root))
        evicted, kept = kept_for_eviction(self._config.eviction_hard, whole), reserved(self._config)
        if not zero(kept, "memory").nanos + zero(evicted, "memory").nanos:
            raise Permanent("[memorymanager] you should specify the system reserved memory")
        expected = {**kept, "memory": zero(kept, "memory") + zero(evicted, "memory")}
        return reserved_memory(self._config, layout.nodes, expected)

    def _save(self) -> None:
        if self.cpu_manager is not None:
            save_cpus(self._root / CPUS, "static", self.cpu_manager)
        if self.memory_manager is not None:
            save_memory(self._root / MEMORY, "Static", self.memory_manager)

    # --- pods

    def register(self, provider: Provider) -> None:
        """Let it say where containers could be."""
        self._providers.append(provider)

    def affinity(self, uid: str, container: str) -> frozenset[int] | None:
        """The NUMA nodes that were chosen for a container; None: any."""
        return self._affinity.get((uid, container))

    def admit(self, pod: Object) -> tuple[str, str] | None:
        """Find a place for each container and give it what it asks for; why not, or None."""
        if not self.active:
            return None
        containers = [*init_containers(pod), *main_containers(pod)]
        refusal: tuple[str, str] | None
        try:
            refusal = self._place(pod, containers)
        except Misaligned as error:
            refusal = "SMTAlignmentError", str(error)
        except TiphysError as error:
            refusal = "UnexpectedAdmissionError", f"Allocate failed due to {error}, which is unexpected"
        if refusal is not None:
            self.release(uid_of(pod))
        else:
            self._save()
        return refusal

    def _place(self, pod: Object, containers: Sequence[Object]) -> tuple[str, str] | None:
        whole = self._config.topology_manager_scope == "pod"
        if whole and self.policy.name != NONE:
            best, fits = self.policy.merge(self._offers_for_pod(pod, containers))
            if not fits:
                return _NOWHERE
        for container in containers:
            if not whole and self.policy.name != NONE:
                best, fits = self.policy.merge(self._offers(pod, container))
                if not fits:
                    return _NOWHERE
            nodes = best[0] if self.policy.name != NONE else None
            self._affinity[uid_of(pod), container["name"]] = nodes
            for manager in (self.cpu_manager, self.memory_manager):
                if manager is not None:
                    manager.allocate(pod, container, nodes)
        return None

    def _offers(self, pod: Object, container: Object) -> list[Hints]:
        own = [manager.hints for manager in (self.cpu_manager, self.memory_manager) if manager is not None]
        return [ask(pod, container) for ask in (*own, *self._providers)]

    def _offers_for_pod(self, pod: Object, containers: Iterable[Object]) -> list[Hints]:
        """Of all containers together: what one NUMA node has enough of for each need not be enough for all."""
        whole = _together(pod)
        own = [manager.hints for manager in (self.cpu_manager, self.memory_manager) if manager is not None]
        found: list[Hints] = [ask(pod, whole) for ask in own]
        for ask in self._providers:
            found += [{f"{c['name']}/{name}": hints for name, hints in ask(pod, c).items()} for c in containers]
        return found

    def wants_cpus(self, pod: Object) -> int:
        """How many of its containers are to have CPUs of their own."""
        containers = (*init_containers(pod), *main_containers(pod)) if self.cpu_manager is not None else ()
        return sum(exclusive_cpus(pod, container) > 0 for container in containers)

    def wants_memory(self, pod: Object) -> int:
        """How many of its containers are to have memory of certain nodes."""
        containers = (*init_containers(pod), *main_containers(pod)) if self.memory_manager is not None else ()
        return sum(bool(wanted_memory(pod, container)) for container in containers)

    def release(self, uid: str) -> bool:
        """A pod is over, or was not admitted; whether what others share has changed."""
        for key in [key for key in self._affinity if key[0] == uid]:
            del self._affinity[key]
        freed = self.cpu_manager is not None and self.cpu_manager.release(uid)
        if (self.memory_manager is not None and self.memory_manager.release(uid)) or freed:
            self._save()
        return freed

    def keep_only(self, uids: Iterable[str]) -> None:
        """Release what pods have that are gone."""
        known = set(uids)
        held = set(self.cpu_manager.entries if self.cpu_manager is not None else ())
        held |= set(self.memory_manager.entries if self.memory_manager is not None else ())
        for uid in held - known:
            self.release(uid)

    def assigned(self, pod: Object, container: Object) -> Assigned:
        """What the container's cgroup is to say."""
        uid, name = uid_of(pod), container["name"]
        own = frozenset(self.cpus(uid, name))
        shared = format_cpus(self.cpu_manager.shared) if self.cpu_manager is not None else ""
        mems = self.memory_manager.nodes_of(uid, name) if self.memory_manager is not None else frozenset()
        return Assigned(format_cpus(own) or shared, format_cpus(mems), bool(own))

    # --- for those who list what is in use (the pod resources API)

    def cpus(self, uid: str, container: str) -> Sequence[int]:
        """CPUs that the container has for itself; () when it shares."""
        return sorted(self.cpu_manager.of(uid, container)) if self.cpu_manager is not None else ()

    def allocatable_cpus(self) -> Sequence[int]:
        """CPUs that containers can have for themselves."""
        return sorted(self.cpu_manager.allocatable) if self.cpu_manager is not None else ()

    def memory(self, uid: str, container: str) -> Sequence[tuple[str, int, tuple[int, ...]]]:
        """(memory or hugepages-SIZE, bytes, NUMA nodes) of each block."""
        blocks = self.memory_manager.of(uid, container) if self.memory_manager is not None else ()
        return [(block.resource, block.size, tuple(sorted(block.nodes))) for block in blocks]

    def allocatable_memory(self) -> Sequence[tuple[str, int, tuple[int, ...]]]:
        """Likewise, of what there is, node by node."""
        manager = self.memory_manager
        if manager is None:
            return ()
        return [
            (resource, manager.allocatable(node, resource), (node,))
            for node, found in sorted(manager.layout.memory.items())
            for resource in sorted(found)
        ]


def _together(pod: Object) -> Object:
    """A container that asks for what all of the pod's ask for at the same time."""
    requests = {name: str(amount) for name, amount in containers_total(pod, "requests").items()}
    return {"name": "", "resources": {"requests": requests}}
