"""Images of a CRI runtime: an ImageStore over its image service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.types import Code, RpcError
from tiphys.runtime.cri import protocol
from tiphys.runtime.types import Credential, Image, ImageConfig, InvalidSpec, NoSuchImage, RuntimeFailure

_LOOK = 60.0
"""Seconds between looks at the list: the CRI does not tell of images."""


class CriImages:
    """See runtime.types.ImageStore. What an image's configuration says is asked once for each image."""

    def __init__(self, channel: Channel, clock: Clock) -> None:
        self._channel = channel
        self._clock = clock
        self._configs: dict[str, ImageConfig] = {}

    async def load(self, path: str) -> Sequence[Image]:
        """Raises InvalidSpec: the CRI cannot."""
        raise InvalidSpec(f"{path}: images cannot be loaded over the CRI; use the runtime's own tool")

    async def pull(self, reference: str, credentials: Sequence[Credential] = ()) -> Image:
        """As each of `credentials` in turn. Raises NoSuchImage."""
        tries = [{"image": {"image": reference}, "auth": _auth(one)} for one in credentials]
        failures: list[str] = []
        for request in tries or [{"image": {"image": reference}}]:
            try:
                answer = await self._channel.call(protocol.IMAGES["PullImage"], request)
            except RpcError as error:
                failures.append(str(error))
                continue
            found = await self.get(answer["image_ref"]) or await self.get(reference)
            if found is not None:
                return found
            failures.append(f"{answer['image_ref']} is gone again")
        raise NoSuchImage("; ".join(dict.fromkeys(failures)))

    async def get(self, reference: str) -> Image | None:
        """Raises RuntimeFailure."""
        request = {"image": {"image": reference}, "verbose": True}
        try:
            answer = await self._channel.call(protocol.IMAGES["ImageStatus"], request)
        except RpcError as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise RuntimeFailure(str(error)) from error
        message = answer["image"]
        if message is None or not message["id"]:
            return None
        self._configs[message["id"]] = _config(message, answer["info"])
        return self._image(message)

    async def list(self) -> Sequence[Image]:
        """Configurations are those of images that were asked for by name."""
        try:
            answer = await self._channel.call(protocol.IMAGES["ListImages"], {})
        except RpcError as error:
            raise RuntimeFailure(str(error)) from error
        return [self._image(message) for message in answer["images"]]

    def _image(self, message: Mapping[str, Any]) -> Image:
        return Image(
            id=message["id"],
            tags=tuple(message["repo_tags"]),
            digests=tuple(message["repo_digests"]),
            size=message["size"],
            config=self._configs.get(message["id"], ImageConfig()),
            pinned=message["pinned"],
        )

    async def changes(self) -> AsyncIterator[None]:
        """Whenever a look shows another list."""
        before: set[str] | None = None
        while True:
            try:
                now = {name for image in await self.list() for name in (image.id, *image.tags)}
            except RuntimeFailure:
                now = before or set()
            if before is not None and now != before:
                yield
            before = now
            await self._clock.sleep(_LOOK)

    async def remove(self, reference: str) -> None:
        """Raises RuntimeFailure."""
        try:
            await self._channel.call(protocol.IMAGES["RemoveImage"], {"image": {"image": reference}})
        except RpcError as error:
            raise RuntimeFailure(str(error)) from error


def _auth(credential: Credential) -> dict[str, str]:
    if credential.token:
        return {"registry_token": credential.token}
    return {"username": credential.username, "password": credential.password}


def _config(message: Mapping[str, Any], info: Mapping[str, str]) -> ImageConfig:
    """From the verbose information, which containerd and CRI-O give in the form of OCI."""
    try:
        content = (json.loads(info.get("info", "{}")).get("imageSpec") or {}).get("config") or {}
    except ValueError:
        content = {}
    user = str(content.get("User") or "") or message["username"]
    if not user and message["uid"] is not None:
        user = str(message["uid"]["value"])
    return ImageConfig(
        entrypoint=tuple(content.get("Entrypoint") or ()),
        command=tuple(content.get("Cmd") or ()),
        env=tuple((name, value) for name, _, value in (pair.partition("=") for pair in content.get("Env") or ())),
        cwd=str(content.get("WorkingDir") or "/"),
        user=user,
        stop_signal=str(content.get("StopSignal") or ""),
        labels=content.get("Labels") or {},
        exposed_ports=tuple(content.get("ExposedPorts") or ()),
        volumes=tuple(content.get("Volumes") or ()),
    )
