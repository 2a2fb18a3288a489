"""What admission counts and times, under kube-apiserver's names. Durations are in seconds."""

from __future__ import annotations

from tiphys.base.clock import Clock
from tiphys.base.metrics import Registry

STEP_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
WEBHOOK_BUCKETS = (*STEP_BUCKETS, 10.0, 25.0)
MOST_CODE = 600
"""Codes that webhooks made up count as this one."""
CALLING, INTERNAL, NO_ERROR = "calling_webhook_error", "apiserver_internal_error", "no_error"
_WHO = ("name", "type", "operation")


class Measures:
    """One for a server; `registry` is part of its page."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock.monotonic
        self.registry = registry = Registry()
        self._step = registry.histogram(
            "apiserver_admission_step_admission_duration_seconds",
            "Time that a phase of admission took.",
            ("operation", "rejected", "type"),
            STEP_BUCKETS,
        )
        self._duration = registry.histogram(
            "apiserver_admission_webhook_admission_duration_seconds",
            "Time that a webhook took.",
            (*_WHO, "rejected"),
            WEBHOOK_BUCKETS,
        )
        self._requests = registry.counter(
            "apiserver_admission_webhook_request_total", "Calls of webhooks.", (*_WHO, "code", "rejected")
        )
        self._rejections = registry.counter(
            "apiserver_admission_webhook_rejection_count",
            "Requests that a webhook, or its failure, refused.",
            (*_WHO, "error_type", "rejection_code"),
        )
        self._opened = registry.counter(
            "apiserver_admission_webhook_fail_open_count",
            "Failures of webhooks that were passed over.",
            ("name", "type"),
        )

    def step(self, operation: str, type: str, since: float, *, rejected: bool) -> None:
        """A phase (admit, validate) that began at `since` is over."""
        self._step.observe(self.now() - since, operation, "true" if rejected else "false", type)

    def webhook(self, name: str, type: str, operation: str, since: float, code: int, error_type: str = "") -> None:
        """A call is over; `error_type` says how it refused the request, "" that it did not."""
        who, shown = (name, type, operation), "true" if error_type else "false"
        code = min(code, MOST_CODE)
        self._duration.observe(self.now() - since, *who, shown)
        self._requests.inc(*who, str(code), shown)
        if error_type:
            self._rejections.inc(*who, error_type, str(code))

    def opened(self, name: str, type: str) -> None:
        """A webhook failed, and the request went on."""
        self._opened.inc(name, type)
