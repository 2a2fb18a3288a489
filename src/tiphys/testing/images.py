"""FakeImages: an image store in memory. Pulling takes virtual time; what may be pulled is a mapping."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence

from tiphys.base.clock import Clock
from tiphys.runtime.types import Credential, Image, ImageConfig, InvalidSpec, NoSuchImage

BUSYBOX = "docker.io/library/busybox:latest"


class FakeImages:
    """`registry` is what can be pulled, by full reference; busybox is there from the start."""

    def __init__(
        self, registry: Mapping[str, ImageConfig] | None = None, clock: Clock | None = None, pull_seconds: float = 0
    ) -> None:
        self.registry = dict(registry or {})
        self.pulls: list[str] = []
        """Every reference that was pulled, in order."""
        self._clock, self._pull_seconds = clock, pull_seconds
        self._images: dict[str, Image] = {}
        self._listeners: set[asyncio.Event] = set()
        self.add(BUSYBOX, ImageConfig(command=("sh",)))

    def add(self, reference: str, config: ImageConfig) -> Image:
        """Put an image in the store."""
        digest = hashlib.sha256(reference.encode()).hexdigest()
        repository = reference.rpartition(":")[0] or reference
        image = Image(f"sha256:{digest}", (reference,), (f"{repository}@sha256:{digest}",), 1 << 20, config)
        self._images[image.id] = image
        self._tell()
        return image

    def _tell(self) -> None:
        for listener in self._listeners:
            listener.set()

    async def changes(self) -> AsyncIterator[None]:
        """After each add and remove."""
        told = asyncio.Event()
        self._listeners.add(told)
        try:
            while True:
                await told.wait()
                told.clear()
                yield
        finally:
            self._listeners.discard(told)

    async def get(self, reference: str) -> Image | None:
        """By ID, full reference, or a Docker Hub short name."""
        names = {reference, f"docker.io/library/{reference}", f"docker.io/library/{reference}:latest"}
        for image in self._images.values():
            if image.id == reference or names.intersection(image.tags + image.digests):
                return image
        return None

    async def list(self) -> Sequence[Image]:
        """All."""
        return list(self._images.values())

    async def load(self, path: str) -> Sequence[Image]:
        """Always raises InvalidSpec."""
        raise InvalidSpec(f"cannot load {path}: this store has no files")

    async def pull(self, reference: str, credentials: Sequence[Credential] = ()) -> Image:
        """Raises NoSuchImage when the registry has it not."""
        self.pulls.append(reference)
        if self._clock is not None and self._pull_seconds:
            await self._clock.sleep(self._pull_seconds)
        if reference not in self.registry:
            raise NoSuchImage(f"{reference}: not found")
        return self.add(reference, self.registry[reference])

    async def remove(self, reference: str) -> None:
        """Harmless if it is gone."""
        image = await self.get(reference)
        if image is not None:
            del self._images[image.id]
            self._tell()
