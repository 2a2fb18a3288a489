"""What a runtime directory holds, read from its files: for those who ask while nobody runs it."""

from __future__ import annotations

from pathlib import Path

from tiphys.runtime import spec


def images_in_use(root: Path) -> set[str]:
    """IDs of the images of the containers, running or not, of the runtime at `root`."""
    found = (spec.load(file) for file in root.glob("containers/*/prepared.json"))
    return {content["image"] for content in found if content and "image" in content}
