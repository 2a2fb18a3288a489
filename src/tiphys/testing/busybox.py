"""An image store with one image, made of the machine's static busybox: real containers without any download."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tiphys.runtime.types import Credential, Image, ImageConfig, InvalidSpec, NoSuchImage

PROGRAM = "/bin/busybox"
IMAGE_ID = f"sha256:{'b0' * 32}"
REFERENCE = "docker.io/library/busybox:latest"

ACCOUNTS = (
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1000:1000:App:/home/app:/bin/sh\n"
)
GROUPS = "root:x:0:\napp:x:1000:\nstaff:x:50:app\nnogroup:x:65534:\n"


def make_layer(directory: Path) -> Path:
    """Fill `directory` with busybox, its links, and the files that user lookup reads. Needs busybox-static."""
    for name in ("bin", "etc", "tmp", "root", "home/app"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(PROGRAM, directory / "bin/busybox")
    listing = subprocess.run([PROGRAM, "--list"], check=True, capture_output=True, text=True).stdout
    for name in set(listing.split()) - {"busybox"}:
        os.symlink("busybox", directory / "bin" / name)
    (directory / "etc/passwd").write_text(ACCOUNTS)
    (directory / "etc/group").write_text(GROUPS)
    (directory / "tmp").chmod(0o1777)
    return directory


class BusyboxImages:
    """An ImageStore (runtime.types) for tests. It knows one image and pulls nothing."""

    def __init__(self, layers: Sequence[Path], config: ImageConfig | None = None) -> None:
        self._layers = tuple(layers)
        self._image = Image(IMAGE_ID, (REFERENCE,), (), 0, config or ImageConfig(command=("sh",)))

    def layers(self, image_id: str) -> tuple[Path, ...]:
        """Topmost first."""
        return self._layers

    async def get(self, reference: str) -> Image | None:
        """The image, by its ID, tag or short name."""
        return self._image if reference in (IMAGE_ID, REFERENCE, "busybox", "busybox:latest") else None

    async def list(self) -> Sequence[Image]:
        """The one."""
        return (self._image,)

    async def load(self, path: str) -> Sequence[Image]:
        """Always raises InvalidSpec."""
        raise InvalidSpec(f"cannot load {path}: this store is fixed")

    async def pull(self, reference: str, credentials: Sequence[Credential] = ()) -> Image:
        """The image if it is the one. Raises NoSuchImage."""
        image = await self.get(reference)
        if image is None:
            raise NoSuchImage(f"no image {reference}: this store has busybox only")
        return image

    async def remove(self, reference: str) -> None:
        """Always raises InvalidSpec."""
        raise InvalidSpec(f"cannot remove {reference}: this store is fixed")
