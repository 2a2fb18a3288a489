"""ImagePolicyWebhook: another server says which images may run (imagepolicy.k8s.io). Off by default."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from tiphys.apiserver.admission.decision import refuse
from tiphys.apiserver.reviewer import Patience, RemoteReviewer, ReviewFailed
from tiphys.apiserver.types import Attributes, Object, Plugin
from tiphys.base.clock import Clock
from tiphys.base.errors import Permanent

API_VERSION, KIND = "imagepolicy.k8s.io/v1alpha1", "ImageReview"
AUDIT = "imagepolicywebhook.image-policy.k8s.io/"
DOMAIN = ".image-policy.k8s.io/"
KEPT = 1024
"""Answers that are remembered."""
LONGEST = 1800.0
"""Seconds that an answer may be remembered."""


class ImagePolicyWebhook(Plugin):
    name = "ImagePolicyWebhook"
    resources = frozenset({("", "pods")})

    def __init__(self, clock: Clock, configuration: Mapping[str, Any] | None) -> None:
        struct = (configuration or {}).get("imagePolicy") or {}
        if not struct.get("kubeConfigFile"):
            raise Permanent(
                "ImagePolicyWebhook: imagePolicy.kubeConfigFile: give it in --admission-control-config-file"
            )
        self._clock = clock
        self._fails_open = bool(struct.get("defaultAllow"))
        self._seconds = {True: _seconds(struct, "allowTTL", 300.0), False: _seconds(struct, "denyTTL", 30.0)}
        first = float(struct.get("retryBackoff") or 500) / 1000
        self._reviewer = RemoteReviewer(Path(struct["kubeConfigFile"]), clock, Patience(first=first))
        self._known: OrderedDict[bytes, tuple[float, Object]] = OrderedDict()

    async def validate(self, attributes: Attributes) -> None:
        pod, subresource = attributes.obj, attributes.info.subresource
        if pod is None or attributes.operation not in ("CREATE", "UPDATE"):
            return
        if subresource not in ("", "ephemeralcontainers"):
            return
        fields = ("ephemeralContainers",) if subresource else ("containers", "initContainers")
        images = [{"image": one.get("image", "")} for field in fields for one in pod["spec"].get(field) or ()]
        notes = {k: v for k, v in (pod["metadata"].get("annotations") or {}).items() if DOMAIN in k}
        spec: dict[str, Any] = {"containers": images, "namespace": attributes.info.namespace}
        if notes:
            spec["annotations"] = notes
        try:
            status = await self._ask(spec)
        except ReviewFailed as error:
            if not self._fails_open:
                raise refuse(attributes, str(error)) from error
            attributes.annotations[AUDIT + "failed-open"] = "true"
            return
        for key, value in (status.get("auditAnnotations") or {}).items():
            attributes.annotations[AUDIT + key] = str(value)
        if not status.get("allowed"):
            reason = status.get("reason")
            text = "image policy webhook backend denied one or more images"
            raise refuse(
                attributes, f"{text}: {reason}" if reason else "one or more images rejected by webhook backend"
            )

    async def _ask(self, spec: Mapping[str, Any]) -> Object:
        key, now = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS), self._clock.monotonic()
        known = self._known.get(key)
        if known is not None and known[0] > now:
            return known[1]
        review = {"kind": KIND, "apiVersion": API_VERSION, "metadata": {}, "spec": spec, "status": {"allowed": False}}
        answer = await self._reviewer.post(review)
        status = answer.get("status") or {}
        if not isinstance(status, dict):
            raise ReviewFailed("the answer has no status")
        self._known[key] = (now + self._seconds[bool(status.get("allowed"))], status)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return status


def _seconds(struct: Mapping[str, Any], field: str, default: float) -> float:
    """How long answers count; -1 stands for not at all, 0 for the default."""
    value = struct.get(field) or 0
    if not isinstance(value, int | float) or not (value in (0, -1) or 1 <= value <= LONGEST):
        raise Permanent(f"ImagePolicyWebhook: imagePolicy.{field}: must be between 1 and {LONGEST:.0f} seconds")
    return 0.0 if value == -1 else float(value or default)
