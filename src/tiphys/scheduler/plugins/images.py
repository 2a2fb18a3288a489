"""A node that has the pod's images already need not pull them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from tiphys.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from tiphys.scheduler.types import MAX_SCORE, SILENT, Plugin

LEAST = 23 * 1024 * 1024
"""Bytes below which an image does not count, and (per container) above which more does not count more."""
MOST = 1024 * 1024 * 1024

Shares = tuple[tuple[str, float], ...]
"""Of each image that is somewhere: on what share of the nodes."""


class ImageLocality(Plugin):
    name = "ImageLocality"
    weight = 1

    def prepare(self, pod: PodInfo, snapshot: Snapshot) -> Any:
        found = sorted((image, snapshot.images[image]) for image in _images(pod))
        return tuple((image, count / len(snapshot)) for image, count in found if count) or SILENT

    def local(self, pod: PodInfo, state: Shares) -> Hashable | None:
        return state

    def score(self, pod: PodInfo, node: NodeInfo, state: Shares) -> float:
        found = sum(node.images.get(image, 0) * share for image, share in state)
        most = MOST * max(1, len(pod.pod["spec"].get("containers") or ()))
        return MAX_SCORE * (min(max(found, LEAST), most) - LEAST) / (most - LEAST)


def _images(pod: PodInfo) -> set[str]:
    return {_full(container.get("image") or "") for container in pod.pod["spec"].get("containers") or ()}


def _full(image: str) -> str:
    """With the tag that is meant when none is written."""
    last = image.rsplit("/", 1)[-1]
    return image if ":" in last or "@" in last else f"{image}:latest"
