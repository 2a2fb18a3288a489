"""Images for containers: by pull policy, with credentials, back-off and upstream's events."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.kubelet.podspec import Object, namespace_of
from tiphys.kubelet.sources import ObjectSources
from tiphys.runtime.types import Credential, Image, ImageStore

_NAME = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/|\[[0-9a-fA-F:]+\](?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,})?"
)


class ImageError(TiphysError):
    """No image for the container; `reason` is that of its waiting state."""

    def __init__(self, reason: str, message: str, event: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.event = event
        """(reason, message) of the Warning to record, besides the container's own."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image and how it came: `event` is the text of the Pulled event."""

    image: Image
    event: str


class Images:
    """Makes sure that images are present."""

    def __init__(self, store: ImageStore, clock: Clock, sources: ObjectSources, parallel: int = 0) -> None:
        self._store = store
        self._clock = clock
        self._sources = sources
        self._slots = asyncio.Semaphore(parallel) if parallel else None

    async def present(self, container: Object) -> Found | None:
        """The image if the pull policy allows the one that is here; None: it must be pulled. Raises ImageError."""
        name = str(container.get("image") or "")
        if not _NAME.fullmatch(name):
            text = f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": '
            text += "invalid reference format"
            raise ImageError("InvalidImageName", text, ("InspectFailed", text))
        policy = container.get("imagePullPolicy") or "IfNotPresent"
        if policy == "Always":
            return None
        image = await self._store.get(name)
        if image is not None:
            return Found(image, f'Container image "{name}" already present on machine and can be accessed by the pod')
        if policy == "Never":
            text = f'Container image "{name}" is not present with pull policy of Never'
            raise ImageError("ErrImageNeverPull", text, ("ErrImageNeverPull", text))
        return None

    async def pull(self, pod: Object, container: Object) -> Found:
        """From its registry. Raises ImageError."""
        name = str(container["image"])
        asked = self._clock.monotonic()
        try:
            if self._slots is None:
                image, took = await self._pull(name, pod)
            else:
                async with self._slots:
                    image, took = await self._pull(name, pod)
        except (TiphysError, OSError) as error:
            text = f'Failed to pull image "{name}": {error}'
            raise ImageError("ErrImagePull", str(error), ("Failed", text)) from error
        whole = self._clock.monotonic() - asked
        return Found(
            image,
            f'Successfully pulled image "{name}" in {_duration(took)} ({_duration(whole)} including waiting). '
            f"Image size: {image.size} bytes.",
        )

    async def _pull(self, name: str, pod: Object) -> tuple[Image, float]:
        started = self._clock.monotonic()
        image = await self._store.pull(name, self._credentials(pod, name))
        return image, self._clock.monotonic() - started

    def _credentials(self, pod: Object, image: str) -> Sequence[Credential]:
        found: list[Credential] = []
        for reference in pod["spec"].get("imagePullSecrets") or ():
            secret = self._sources.secret(namespace_of(pod), str(reference.get("name") or ""))
            if secret is not None:
                found += credentials(secret, image)
        return found


def registry_of(image: str) -> str:
    """The host an image comes from."""
    head, slash, _ = image.partition("/")
    return head if slash and ("." in head or ":" in head or head == "localhost") else "docker.io"


def credentials(secret: Object, image: str) -> list[Credential]:
    """Those of a dockerconfigjson or dockercfg Secret that fit the image."""
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            auths = json.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
        else:
            auths = json.loads(base64.b64decode(data.get(".dockercfg") or b"e30="))
    except ValueError:
        return []
    wanted = registry_of(image)
    return [_credential(entry) for host, entry in auths.items() if _host(host) == wanted]


def _host(key: str) -> str:
    bare = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return "docker.io" if bare in ("index.docker.io", "registry-1.docker.io") else bare


def _credential(entry: Mapping[str, Any]) -> Credential:
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if not user and entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"]).decode(errors="replace").partition(":")
    return Credential(user, password, str(entry.get("identitytoken") or entry.get("registrytoken") or ""))


def _duration(seconds: float) -> str:
    """As Go prints a duration that is cut to milliseconds: 0s, 12ms, 1.234s, 1m2.5s."""
    millis = int(seconds * 1000)
    if millis < 1000:
        return f"{millis}ms" if millis else "0s"
    minutes, rest = divmod(millis, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{minutes}m{text}" if minutes else text
