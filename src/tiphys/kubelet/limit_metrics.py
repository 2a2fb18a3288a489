"""What is counted about resizes and about CPUs and memory of containers' own, as upstream names and describes it."""

from __future__ import annotations

from tiphys.base.metrics import Registry
from tiphys.kubelet.allocation import KINDS, SCALABLE
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.resources import amounts, zero

DURATIONS = (10, 50, 100, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 300000, 600000)
ADMISSIONS = tuple(0.05 * 2.0**power for power in range(15))
_REQUESTED = (
    "Number of requested resizes, counted at the container level. Different resources on the same container are "
    "counted separately. The 'requirement' label refers to 'memory' or 'limits'; the 'operation' label can be one of "
    "'add', 'remove', 'increase' or 'decrease'."
)


class LimitMetrics:
    """Registered once a kubelet."""

    def __init__(self, registry: Registry) -> None:
        counter, histogram = registry.counter, registry.histogram
        labels = ("resource", "requirement", "operation")
        self.requested = counter("kubelet_container_requested_resizes_total", _REQUESTED, labels)
        help = "Duration in milliseconds to actuate a pod resize"
        self.duration = histogram("kubelet_pod_resize_duration_milliseconds", help, ("success",), DURATIONS)
        help = "Number of infeasible resizes for pods."
        self.infeasible = counter("kubelet_pod_infeasible_resizes_total", help, ("reason_detail",))
        help = "Cumulative number of resizes that were accepted after being deferred."
        self.accepted = counter("kubelet_pod_deferred_accepted_resizes_total", help, ("retry_trigger",))
        help = "The number of cpu core allocations which required pinning."
        self.cpu_pinned = counter("kubelet_cpu_manager_pinning_requests_total", help)
        help = "The number of cpu core allocations which required pinning failed."
        self.cpu_failed = counter("kubelet_cpu_manager_pinning_errors_total", help)
        help = "The number of memory pages allocations which required pinning."
        self.memory_pinned = counter("kubelet_memory_manager_pinning_requests_total", help)
        help = "The number of memory pages allocations which required pinning that failed."
        self.memory_failed = counter("kubelet_memory_manager_pinning_errors_total", help)
        help = "The number of admission requests where resources have to be aligned."
        self.aligned = counter("kubelet_topology_manager_admission_requests_total", help)
        help = "The number of admission request failures where resources could not be aligned."
        self.misaligned = counter("kubelet_topology_manager_admission_errors_total", help)
        help = "Duration in milliseconds to serve a pod admission request."
        self.admission = histogram("kubelet_topology_manager_admission_duration_ms", help, (), ADMISSIONS)

    def note_request(self, old: Object, new: Object) -> None:
        """A pod asks for something else than before."""
        for kind in KINDS:
            before = {one["name"]: one for one in old["spec"].get(kind) or ()}
            for container in new["spec"].get(kind) or ():
                if container["name"] in before:
                    self._note(before[container["name"]], container)

    def _note(self, old: Object, new: Object) -> None:
        for requirement in ("requests", "limits"):
            had, wants = (amounts((one.get("resources") or {}).get(requirement)) for one in (old, new))
            for name in SCALABLE:
                before, after = zero(had, name), zero(wants, name)
                if before != after:
                    change = "increase" if before < after else "decrease"
                    operation = "add" if not before.nanos else "remove" if not after.nanos else change
                    self.requested.inc(name, requirement, operation)
