"""Whether the proxy keeps up, and whether its node is to get traffic: /healthz, /livez. Pure.

The proxy is unhealthy when a change has waited for longer than `TIMEOUT`. A node that is about to go (deleted, or
tainted by the cluster autoscaler) fails /healthz, so that load balancers drain it, but not /livez (KEP-3836).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import utc

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
TIMEOUT = 60.0
"""Seconds: twice upstream's syncPeriod."""


class ProxyHealth:
    """Kept by whoever syncs; read by whoever answers."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._updated: dict[str, float] = {}
        self._pending: dict[str, float] = {}
        self._node: Mapping[str, Any] | None = None

    def queued(self, family: str, now: float) -> None:
        """A change waits for the kernel of `family` (IPv4, IPv6) since `now`, in seconds since the epoch."""
        self._pending.setdefault(family, now)

    def updated(self, family: str, now: float) -> None:
        """The kernel knows all that was to be known."""
        self._pending.pop(family, None)
        self._updated[family] = now

    def node_is(self, node: Mapping[str, Any] | None) -> None:
        """The Node object of this proxy's node; None while there is none."""
        self._node = node

    @property
    def eligible(self) -> bool:
        """Whether the node is to get traffic."""
        if self._node is None or self._node["metadata"].get("deletionTimestamp"):
            return False
        taints = (self._node.get("spec") or {}).get("taints") or ()
        return all(taint.get("key") != TO_BE_DELETED for taint in taints)

    def _late(self, family: str, now: float) -> bool:
        since = self._pending.get(family)
        return since is not None and now - since >= self._timeout

    def healthy(self, now: float) -> bool:
        return not any(self._late(family, now) for family in self._updated)

    def livez(self, now: float) -> tuple[bool, dict[str, Any]]:
        """(fine, the body of the answer). It was updated "now" if it is fine: nothing had to be done since."""
        return self._told(now, fine=self.healthy(now))

    def healthz(self, now: float) -> tuple[bool, dict[str, Any]]:
        """As `livez`, for the node as a whole."""
        fine, body = self._told(now, fine=self.healthy(now) and self.eligible)
        return fine, body | {"nodeEligible": self.eligible}

    def _told(self, now: float, *, fine: bool) -> tuple[bool, dict[str, Any]]:
        last = now if fine else max(self._updated.values(), default=None)
        body: dict[str, Any] = {
            "lastUpdated": "0001-01-01T00:00:00Z" if last is None else _nano(last),
            "currentTime": _nano(now),
            "healthy": self.healthy(now),
        }
        if self._updated:
            body["status"] = {
                family: {"lastUpdated": _nano(when), "healthy": not self._late(family, now)}
                for family, when in sorted(self._updated.items())
            }
        return fine, body


def _nano(seconds: float) -> str:
    """RFC 3339 with the fraction that there is, as Go writes times."""
    text = utc(seconds).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{text}Z"
