"""Warns of pods that cannot share a volume because of their SELinux labels; runs only when it is asked for by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.errors import Retry
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import CSI_DRIVERS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS
from tiphys.client.types import Object
from tiphys.controllers.attach_volumes import Unresolved, Volume, claim_keys, claim_names, resolve
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import spec, status
from tiphys.controllers.selinux_labels import Labels, SeveralLabels, mounted, use_of


class SELinuxWarningController(Controller):
    """Keys are pods. Volumes that cannot be mounted with a label at all are in nobody's way and left out."""

    name = "selinux-warning-controller"
    account = "selinux-warning-controller"
    component = "selinux_warning"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._labels = Labels()
        self._pods = self.watch(PODS)
        self._pods.add_index("claim", claim_keys)
        self._claims = self.watch(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = self.watch(PERSISTENT_VOLUMES)
        self._drivers = self.watch(CSI_DRIVERS)
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)
        self._volumes.subscribe(self._volume_changed)
        self._drivers.subscribe(self._driver_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _ended(old) != _ended(new):
            self.enqueue(old, new)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            for pod in self._pods.by_index("claim", key_of(new)):
                self.enqueue(None, pod)

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        claim = (spec(new).get("claimRef") or {}) if new is not None else {}
        if claim.get("uid"):
            for pod in self._pods.by_index("claim", f"{claim.get('namespace')}/{claim.get('name')}"):
                self.enqueue(None, pod)

    def _driver_changed(self, old: Object | None, new: Object | None) -> None:
        if _mounts_labels(old) != _mounts_labels(new):
            for pod in self._pods.list():
                if claim_keys(pod):
                    self.enqueue(None, pod)

    async def reconcile(self, key: str) -> Result | None:
        pod = self._pods.by_key(key)
        if pod is None or _ended(pod):
            self._labels.forget(key)
            return None
        several = False
        names = mounted(pod)
        for source, claim in claim_names(pod):
            if source.get("name") in names:
                several |= not self._examine(key, pod, source, claim)
        if several:
            raise Retry(f"pod {key} mounts a volume with several SELinux labels")
        return None

    def _examine(self, key: str, pod: Object, source: Mapping[str, Any], claim: str) -> bool:
        """Note how the pod uses a volume and tell of conflicts; False if its containers do not agree."""
        name = str(source["name"])
        try:
            volume = resolve(pod, source, claim, self._claims.get, self._volumes.get)
            use = use_of(pod, name, supported=volume is not None and self._supported(volume))
        except Unresolved:
            return True  # its claim or volume will wake us
        except SeveralLabels:
            message = f'Volume "{name}" is mounted twice with different SELinux labels inside this pod'
            self.recorder.event(pod, WARNING, "MultipleSELinuxLabels", message)
            return False
        for conflict in self._labels.use(volume.unique, key, use) if volume is not None else ():
            about = self._pods.by_key(conflict.pod)
            if about is not None:
                self.recorder.event(about, NORMAL, conflict.reason, conflict.message)
        return True

    def _supported(self, volume: Volume) -> bool:
        """Whether it can be mounted with a label."""
        return not volume.by_driver or _mounts_labels(self._drivers.get("", volume.driver))


def _ended(pod: Object) -> bool:
    return status(pod).get("phase") in ("Succeeded", "Failed")


def _mounts_labels(driver: Object | None) -> bool:
    return driver is not None and spec(driver).get("seLinuxMount") is True
