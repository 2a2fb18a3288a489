"""A node that has the pod's images already need not pull them."""

from __future__ import annotations

from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import MAX_SCORE, Plugin

LEAST = 23 * 1024 * 1024
"""Bytes below which an image does not count, and (per container) above which more does not count more."""
MOST = 1024 * 1024 * 1024


class ImageLocality(Plugin):
    name = "ImageLocality"
    weight = 1

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> tuple[dict[str, int], int]:
        """How many nodes have each image, and how many nodes there are."""
        counts = dict.fromkeys(_images(pod), 0)
        total = 0
        for node in snapshot.nodes():
            total += 1
            for image in counts:
                counts[image] += image in node.images
        return counts, total

    def score(self, pod: PodInfo, node: NodeInfo, state: tuple[dict[str, int], int]) -> float:
        counts, total = state
        found = sum(node.images.get(image, 0) * count / total for image, count in counts.items() if total)
        most = MOST * max(1, len(counts))
        return MAX_SCORE * (min(max(found, LEAST), most) - LEAST) / (most - LEAST)


def _images(pod: PodInfo) -> set[str]:
    return {_full(container.get("image") or "") for container in pod.pod["spec"].get("containers") or ()}


def _full(image: str) -> str:
    """With the tag that is meant when none is written."""
    last = image.rsplit("/", 1)[-1]
    return image if ":" in last or "@" in last else f"{image}:latest"
