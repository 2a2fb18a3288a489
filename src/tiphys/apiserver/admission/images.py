"""AlwaysPullImages: nobody uses an image that another pod has pulled. Off by default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tiphys.api.kinds.base import FieldError, not_supported
from tiphys.apiserver.admission.decision import aggregate, concerns, refuse
from tiphys.apiserver.types import Attributes, Object, Plugin

ALWAYS = "Always"
FIELDS = ("initContainers", "containers", "ephemeralContainers")


class AlwaysPullImages(Plugin):
    """Sets the pull policy, and refuses what later changed it again."""

    name = "AlwaysPullImages"
    resources = frozenset({("", "pods")})

    async def admit(self, attributes: Attributes) -> None:
        pod = _concerned(attributes)
        if pod is None:
            return
        for field in FIELDS:
            if pod["spec"].get(field):
                pod["spec"][field] = [{**one, "imagePullPolicy": ALWAYS} for one in pod["spec"][field]]
        if any(volume.get("image") for volume in pod["spec"].get("volumes") or ()):
            pod["spec"]["volumes"] = [_pulled(volume) for volume in pod["spec"]["volumes"]]

    async def validate(self, attributes: Attributes) -> None:
        pod = _concerned(attributes)
        problems = [] if pod is None else [str(refuse(attributes, str(one))) for one in _problems(pod)]
        if problems:
            error = refuse(attributes, "")
            error.message = aggregate(problems)
            raise error


def _concerned(attributes: Attributes) -> dict[str, Any] | None:
    """The pod, if it is new or has a new image."""
    pod, old = attributes.obj, attributes.old
    if pod is None or attributes.operation not in ("CREATE", "UPDATE") or not concerns(attributes, "", "pods"):
        return None
    if old is not None and set(_images(pod)) <= set(_images(old)):
        return None
    return pod


def _images(pod: Object) -> Iterator[str]:
    for field in FIELDS:
        for container in pod["spec"].get(field) or ():
            yield container.get("image", "")


def _pulled(volume: Object) -> Object:
    return {**volume, "image": {**volume["image"], "pullPolicy": ALWAYS}} if volume.get("image") else volume


def _problems(pod: Object) -> Iterator[FieldError]:
    spec = pod["spec"]
    for field in FIELDS:
        for number, container in enumerate(spec.get(field) or ()):
            policy = container.get("imagePullPolicy", "")
            if policy != ALWAYS:
                yield not_supported(f"spec.{field}[{number}].imagePullPolicy", policy, [ALWAYS])
    for number, volume in enumerate(spec.get("volumes") or ()):
        policy = (volume.get("image") or {"pullPolicy": ALWAYS}).get("pullPolicy", "")
        if policy != ALWAYS:
            yield not_supported(f"spec.volumes[{number}].image.pullPolicy", policy, [ALWAYS])
