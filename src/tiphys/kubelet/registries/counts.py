"""What is counted of images: requests, pulls that had to be, records, plugins, image volumes. Names are upstream's."""

from __future__ import annotations

from tiphys.base.metrics import Registry
from tiphys.runtime.types import ContainerSpec


class ImageCounts:
    """Metrics of one kubelet's images, in its registry."""

    def __init__(self, registry: Registry) -> None:
        self._requests = registry.counter(
            "kubelet_image_manager_ensure_image_requests_total",
            "Number of ensure-image requests processed by the kubelet.",
            ("pull_policy", "present_locally", "pull_required"),
        )
        self.checks = registry.counter(
            "kubelet_imagemanager_image_mustpull_checks_total",
            "Counter for how many times kubelet checked whether credentials need to be re-verified to access an image",
            ("result",),
        )
        self.intents = registry.gauge("kubelet_imagemanager_ondisk_pullintents", "Number of ImagePullIntents on disk.")
        self.pulled = registry.gauge(
            "kubelet_imagemanager_ondisk_pulledrecords", "Number of ImagePulledRecords on disk."
        )
        self._volumes_requested = registry.counter(
            "kubelet_image_volume_requested_total", "Number of requested image volumes."
        )
        self._volumes_mounted = registry.counter(
            "kubelet_image_volume_mounted_succeed_total", "Number of successful image volume mounts."
        )
        self._volumes_failed = registry.counter(
            "kubelet_image_volume_mounted_errors_total", "Number of failed image volume mounts."
        )
        self.plugin_errors = registry.counter(
            "kubelet_credential_provider_plugin_errors_total",
            "Number of errors from credential provider plugin",
            ("plugin_name",),
        )
        self.plugin_seconds = registry.histogram(
            "kubelet_credential_provider_plugin_duration",
            "Duration of execution in seconds for credential provider plugin",
            ("plugin_name",),
        )

    def mounted(self, spec: ContainerSpec, *, failed: bool) -> None:
        """A container was started, or could not be, with its image volumes."""
        images = sum(1 for mount in spec.mounts if mount.image)
        if images:
            self._volumes_requested.inc(by=images)
            (self._volumes_failed if failed else self._volumes_mounted).inc(by=images)

    def ensured(self, policy: str, present: bool | None, required: bool | None) -> None:
        """One request for an image; None: that was not found out."""
        words = {None: "unknown", True: "true", False: "false"}
        self._requests.inc(policy.lower(), words[present], words[required])
