"""FakeMachine: a machine whose memory, disks and processes are numbers that a test sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tiphys.kubelet.eviction.figures import FileSystem, NodeFigures, PodFigures, Room
from tiphys.kubelet.eviction.meter import Disks
from tiphys.kubelet.podspec import Object, name_of

GIB = 1 << 30


class FakeMachine:
    """A `Meter`. It has plenty of everything until told otherwise."""

    def __init__(self) -> None:
        self.layout = Disks()
        disk = FileSystem(Room(80 * GIB, 100 * GIB), Room(900_000, 1_000_000))
        self.figures = NodeFigures(
            memory=Room(6 * GIB, 8 * GIB),
            allocatable=Room(6 * GIB, 8 * GIB),
            nodefs=disk,
            imagefs=disk,
            containerfs=disk,
            pids=Room(30_000, 32_768),
        )
        self.pods: dict[str, PodFigures] = {}
        """By the pod's name; others use nothing."""
        self.looks = 0
        """How often the node was measured."""
        self.measured: list[tuple[str, bool]] = []
        """Names of pods that were measured, and whether on the disk too."""

    def disks(self) -> Disks:
        return self.layout

    async def node(self) -> NodeFigures:
        self.looks += 1
        return self.figures

    async def pod(
        self, pod: Object, containers: Mapping[str, str], *, memory: bool, storage: bool
    ) -> PodFigures | None:
        self.measured.append((name_of(pod), storage))
        return self.pods.get(name_of(pod), PodFigures())

    def image_room(self) -> Room:
        """Of the images' file system."""
        return self.figures.imagefs.space if self.figures.imagefs is not None else Room(0, 0)

    def memory(self, available: int) -> None:
        """Bytes that are left."""
        self.figures = replace(self.figures, memory=replace(self.figures.memory or Room(0, 0), available=available))

    def disk(self, available: int, inodes: int = 900_000) -> None:
        """Bytes and inodes that are left on the one disk."""
        disk = FileSystem(Room(available, 100 * GIB), Room(inodes, 1_000_000))
        self.figures = replace(self.figures, nodefs=disk, imagefs=disk, containerfs=disk)

    def processes(self, available: int) -> None:
        """That can still be made."""
        self.figures = replace(self.figures, pids=Room(available, 32_768))
