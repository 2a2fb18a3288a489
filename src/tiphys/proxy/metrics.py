"""What the Services' proxy tells of itself: kube-proxy's names (pkg/proxy/metrics), those of its nftables mode."""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.base.metrics import Counter, Registry

_PREFIX = "kubeproxy_"
_SYNC = f"{_PREFIX}sync_"
SYNC_BUCKETS = tuple(0.001 * 2**power for power in range(15))
PROGRAMMING_BUCKETS = (
    *(0.25, 0.5),
    *map(float, range(1, 60)),
    *map(float, range(60, 120, 5)),
    *map(float, range(120, 301, 30)),
)
FAMILY = ("ip_family",)


class ProxyMetrics:
    """All of them, in one registry; `ip_family` is IPv4 or IPv6."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._make_sync()
        self._make_changes()
        counter, histogram = registry.counter, registry.histogram
        self.conntrack_seconds = histogram(
            f"{_PREFIX}conntrack_reconciler_sync_duration_seconds",
            "Seconds that looking for stale connections took",
            *(FAMILY, SYNC_BUCKETS),
        )
        self.conntrack_deleted = counter(
            f"{_PREFIX}conntrack_reconciler_deleted_entries_total", "Stale connections that were removed", FAMILY
        )
        self.healthz = counter(f"{_PREFIX}proxy_healthz_total", "Answers of /healthz, by status", ("code",))
        self.livez = counter(f"{_PREFIX}proxy_livez_total", "Answers of /livez, by status", ("code",))

    def _make_sync(self) -> None:
        counter, gauge, histogram = self.registry.counter, self.registry.gauge, self.registry.histogram
        self._seconds = histogram(f"{_SYNC}proxy_rules_duration_seconds", "Seconds a sync took", FAMILY, SYNC_BUCKETS)
        self._full = histogram(
            f"{_SYNC}full_proxy_rules_duration_seconds", "Seconds a sync of everything took", FAMILY, SYNC_BUCKETS
        )
        self._partial = histogram(
            f"{_SYNC}partial_proxy_rules_duration_seconds", "Seconds a sync of changes took", FAMILY, SYNC_BUCKETS
        )
        self._programming = histogram(
            f"{_PREFIX}network_programming_duration_seconds",
            "Seconds from a change of a Service or pod until the kernel knew of it",
            *(FAMILY, PROGRAMMING_BUCKETS),
        )
        self._last = gauge(f"{_SYNC}proxy_rules_last_timestamp_seconds", "When rules were last synced", FAMILY)
        self._queued = gauge(
            f"{_SYNC}proxy_rules_last_queued_timestamp_seconds", "When that was last asked for", FAMILY
        )
        self._failures: Counter = counter(
            f"{_SYNC}proxy_rules_nftables_sync_failures_total", "Syncs that the kernel refused", FAMILY
        )
        self.cleanup_failures = counter(
            f"{_SYNC}proxy_rules_nftables_cleanup_failures_total", "Removals of old chains that failed", FAMILY
        )
        self._no_local = gauge(
            f"{_SYNC}proxy_rules_no_local_endpoints_total",
            "Services with a Local traffic policy and no endpoint here",
            ("traffic_policy", *FAMILY),
        )

    def _make_changes(self) -> None:
        counter, gauge = self.registry.counter, self.registry.gauge
        self._pending, self._changes = {}, {}
        for kind in ("endpoint", "service"):
            name, what = f"{_SYNC}proxy_rules_{kind}_changes", kind.capitalize()
            self._pending[kind] = gauge(f"{name}_pending", f"{what} changes that are not in the kernel yet")
            self._changes[kind] = counter(f"{name}_total", f"{what} changes that were seen")

    def queued(self, now: float, families: Iterable[str]) -> None:
        """A sync was asked for at `now` (seconds since the epoch)."""
        for family in families:
            self._queued.set(now, family)

    def changed(self, kind: str) -> None:
        """An object changed: `kind` is "service" or "endpoint" (EndpointSlice)."""
        self._changes[kind].inc()
        self._pending[kind].inc()

    def synced(self, family: str, now: float, seconds: float, *, full: bool, triggers: Iterable[float] = ()) -> None:
        """The kernel has all rules of a family. `triggers` are the times, since the epoch, of the annotations
        endpoints.kubernetes.io/last-change-trigger-time of the EndpointSlices whose changes were among it."""
        self._seconds.observe(seconds, family)
        (self._full if full else self._partial).observe(seconds, family)
        self._last.set(now, family)
        for pending in self._pending.values():
            pending.set(0)
        for trigger in triggers:
            self._programming.observe(max(0.0, now - trigger), family)

    def failed(self, family: str) -> None:
        """The kernel refused a sync."""
        self._failures.inc(family)

    def no_local_endpoints(self, policy: str, family: str, services: int) -> None:
        """So many Services have no endpoint here for their `policy`, "internal" or "external"."""
        self._no_local.set(services, policy, family)
