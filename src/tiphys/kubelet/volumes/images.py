"""Image volumes: what is in an image, read-only, beside the files of the container's own. Pure.

Nothing of them lies in the pod's directory: the runtime mounts the image (Mount.image). Source: KEP-4639.
"""

from __future__ import annotations

from tiphys.kubelet.images import Wanted
from tiphys.kubelet.podspec import Object


def image_volumes(pod: Object) -> dict[str, Wanted]:
    """The images that the pod's volumes are, by the name of the volume."""
    return {
        volume["name"]: Wanted(
            str(volume["image"].get("reference") or ""), str(volume["image"].get("pullPolicy") or "IfNotPresent")
        )
        for volume in pod["spec"].get("volumes") or ()
        if volume.get("image") is not None
    }
