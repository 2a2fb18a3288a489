"""What a runtime directory holds, read from its files: for those who ask while nobody runs it."""

from __future__ import annotations

from pathlib import Path

from tiphys.runtime import spec


def images_in_use(root: Path) -> set[str]:
    """IDs of the images of the containers, running or not, of the runtime at `root`, and of those they mount."""
    found = (spec.load(file) for file in root.glob("containers/*/prepared.json"))
    own = {content["image"] for content in found if content and "image" in content}
    return own | {image for file in root.glob("containers/*/spec.json") for image in mounted_images(file)}


def mounted_images(file: Path) -> set[str]:
    """IDs of the images that the container with this spec.json mounts."""
    mounts = (spec.load(file) or {}).get("mounts") or ()
    return {mount["image"] for mount in mounts if mount.get("image")}
