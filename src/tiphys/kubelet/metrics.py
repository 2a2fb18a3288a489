"""What the kubelet counts about itself, for /metrics and /metrics/probes. Names, labels and buckets are upstream's.

One `KubeletMetrics` belongs to one kubelet and is handed to whoever has something to count. What follows from the
present state (running pods and the like) is worked out when somebody asks (`server.own_metrics`), not kept here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from tiphys.base.metrics import Counter, Histogram, Registry

START_BUCKETS = (
    0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
)  # fmt: skip
PULL_BUCKETS = (1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
SYNC_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 20, 30, 45, 60)
OPERATION_BUCKETS = tuple(0.005 * 2.5**power for power in range(14))
RESIZE_BUCKETS = tuple(10 * 2.0**power for power in range(13))
HTTP_LABELS = ("method", "path", "server_type", "long_running")
_MB, _GB = 1 << 20, 1 << 30
_SIZES = (10 * _MB, 100 * _MB, 500 * _MB, _GB, 5 * _GB, 10 * _GB, 20 * _GB, 30 * _GB, 40 * _GB, 60 * _GB, 100 * _GB)
_SIZE_NAMES = (
    "0-10MB", "10MB-100MB", "100MB-500MB", "500MB-1GB", "1GB-5GB", "5GB-10GB", "10GB-20GB", "20GB-30GB", "30GB-40GB",
    "40GB-60GB", "60GB-100GB", "GT100GB",
)  # fmt: skip


class KubeletMetrics:
    """See the module's docstring. `registry` is /metrics, `probes` is /metrics/probes."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.probes = Registry()
        self._pods()
        self._starts()
        self._runtime()
        self._server()
        self._duties()
        self.probe_total = self.probes.counter(
            "prober_probe_total",
            "Cumulative number of a liveness, readiness or startup probe for a container by result.",
            ("probe_type", "result", "container", "pod", "namespace", "pod_uid"),
        )
        self.probe_duration = self.probes.histogram(
            "prober_probe_duration_seconds",
            "Duration in seconds for a probe response.",
            ("probe_type", "container", "pod", "namespace"),
        )

    def _counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        return self.registry.counter(f"kubelet_{name}", help, labels)

    def _histogram(
        self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] | None = None
    ) -> Histogram:
        full = f"kubelet_{name}"
        if buckets is None:
            return self.registry.histogram(full, help, labels)
        return self.registry.histogram(full, help, labels, buckets)

    def _pods(self) -> None:
        since = "Duration in seconds to start a pod"
        until = "measured from pod creation timestamp to when all its containers are reported as started"
        self.pod_start = self._histogram(
            "pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            buckets=START_BUCKETS,
        )
        self.pod_start_sli = self._histogram(
            "pod_start_sli_duration_seconds",
            f"{since}, excluding time to pull images and run init containers, {until}",
            buckets=START_BUCKETS,
        )
        self.pod_start_total = self._histogram(
            "pod_start_total_duration_seconds",
            f"{since} since creation, including time to pull images and run init containers, {until}",
            buckets=START_BUCKETS,
        )
        self.pod_worker = self._histogram(
            "pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
            ("operation_type",),
        )
        self.pod_worker_start = self._histogram(
            "pod_worker_start_duration_seconds", "Duration in seconds from kubelet seeing a pod to starting a worker."
        )
        self.status_sync = self._histogram(
            "pod_status_sync_duration_seconds",
            "Duration in seconds to sync a pod status update.",
            buckets=SYNC_BUCKETS,
        )
        self.containers_per_pod = self._histogram(
            "containers_per_pod_count", "The number of containers per pod.", buckets=(1, 2, 4, 8, 16)
        )
        self.restarted_pods = self._counter(
            "restarted_pods_total",
            "Number of pods that have been restarted because they were deleted and recreated with the same UID",
            ("static",),
        )
        self.orphaned_pods = self._counter(
            "orphaned_runtime_pods_total",
            "Number of pods that have been detected in the container runtime without being already known.",
        )

    def _starts(self) -> None:
        self.started_pods = self._counter("started_pods_total", "Cumulative number of pods started")
        self.started_pods_errors = self._counter(
            "started_pods_errors_total", "Cumulative number of errors when starting pods"
        )
        self.started_mapped_pods = self._counter(
            "started_user_namespaced_pods_total",
            "Cumulative number of pods with user namespaces started. This metric will only be collected on Linux.",
        )
        self.started_mapped_pods_errors = self._counter(
            "started_user_namespaced_pods_errors_total",
            "Cumulative number of errors when starting pods with user namespaces. "
            "This metric will only be collected on Linux.",
        )
        self.started_containers = self._counter(
            "started_containers_total", "Cumulative number of containers started", ("container_type",)
        )
        self.started_containers_errors = self._counter(
            "started_containers_errors_total",
            "Cumulative number of errors when starting containers",
            ("container_type", "code"),
        )
        self.terminated_containers = self._counter(
            "terminated_containers_total",
            "Cumulative number of container terminations.",
            ("container_type", "exit_code", "reason"),
        )

    def _runtime(self) -> None:
        kind = ("operation_type",)
        self.operations = self._counter(
            "runtime_operations_total", "Cumulative number of runtime operations by operation type.", kind
        )
        self.operations_errors = self._counter(
            "runtime_operations_errors_total", "Cumulative number of runtime operation errors by operation type.", kind
        )
        self.operations_duration = self._histogram(
            "runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
            kind,
            OPERATION_BUCKETS,
        )
        self.run_sandbox = self._histogram(
            "run_podsandbox_duration_seconds",
            "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
            ("runtime_handler",),
        )
        self.run_sandbox_errors = self._counter(
            "run_podsandbox_errors_total",
            "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
            ("runtime_handler",),
        )
        self.image_pull = self._histogram(
            "image_pull_duration_seconds",
            "Duration in seconds to pull an image.",
            ("image_size_in_bytes",),
            PULL_BUCKETS,
        )
        self.relist = self._histogram("pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG.")
        self.last_seen = self.registry.gauge(
            "kubelet_pleg_last_seen_seconds", "Timestamp in seconds when PLEG was last seen active."
        )

    def _server(self) -> None:
        self.requests = self._counter(
            "http_requests_total", "Number of the http requests received since the server started", HTTP_LABELS
        )
        self.requests_duration = self._histogram(
            "http_requests_duration_seconds", "Duration in seconds to serve http requests", HTTP_LABELS
        )
        self.requests_inflight = self.registry.gauge(
            "kubelet_http_inflight_requests", "Number of the inflight http requests", HTTP_LABELS
        )
        self.websockets = self._counter(
            "websocket_streaming_requests_total",
            "Total number of WebSocket streaming requests (exec/attach/portforward) received by the kubelet.",
            ("subresource",),
        )

    def _duties(self) -> None:
        """Counted by whoever has the duty; a series is there once there is something to count."""
        self.evictions = self._counter(
            "evictions", "Cumulative number of pod evictions by eviction signal", ("eviction_signal",)
        )
        self.eviction_stats_age = self._histogram(
            "eviction_stats_age_seconds",
            "Time between when stats are collected, and when pod is evicted based on those stats by eviction signal",
            ("eviction_signal",),
        )
        self.preemptions = self._counter(
            "preemptions", "Cumulative number of pod preemptions by preemption resource", ("preemption_signal",)
        )
        self.admission_rejections = self._counter(
            "admission_rejections_total", "Cumulative number pod admission rejections by the Kubelet.", ("reason",)
        )
        self.images_collected = self._counter(
            "image_garbage_collected_total",
            "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
            ("reason",),
        )
        self.shutdown_start, self.shutdown_end = (
            self.registry.gauge(
                f"kubelet_graceful_shutdown_{moment}_time_seconds",
                f"Last graceful shutdown {moment} time since unix epoch in seconds",
            )
            for moment in ("start", "end")
        )
        self.device_registrations = self._counter(
            "device_plugin_registration_total",
            "Cumulative number of device plugin registrations. Broken down by resource name.",
            ("resource_name",),
        )
        self.device_allocation = self._histogram(
            "device_plugin_alloc_duration_seconds",
            "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
            ("resource_name",),
        )
        self.sleep_ended_early = self._counter(
            "sleep_action_terminated_early_total",
            "The number of times lifecycle sleep handler got terminated before it finishes",
        )
        self.hook_fallbacks = self._counter(
            "lifecycle_handler_http_fallbacks_total",
            "The number of times lifecycle handlers successfully fell back to http from https.",
        )


def size_name(size: int) -> str:
    """An image's size in bytes as the label of image_pull_duration_seconds."""
    return _SIZE_NAMES[bisect_left(_SIZES, size)] if size else "N/A"
