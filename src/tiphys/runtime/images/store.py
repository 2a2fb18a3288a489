"""`LocalImages`: load, pull, find and remove images. Disk work happens in threads.

An image that the user loaded from a file is pinned: a pull of its tag is answered from here, without asking any
registry, until the tag is removed. So what was loaded is what runs, also with imagePullPolicy Always and without a
network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tiphys.base.clock import Clock, SystemClock
from tiphys.base.errors import Retry, TiphysError
from tiphys.base.inotify import DirectoryWatch
from tiphys.runtime.images import hosts, registry
from tiphys.runtime.images.archive import Archive
from tiphys.runtime.images.content import Content, Names, diff_ids
from tiphys.runtime.images.hosts import Endpoint
from tiphys.runtime.images.platform import NoSuchPlatform, choose
from tiphys.runtime.images.reference import Reference, parse
from tiphys.runtime.types import Credential, Image, ImageConfig, ImageInUse, InvalidSpec, NoSuchImage

LAYERS_AT_ONCE = 3
SHORTEST_ID = 12


class _InterruptedPull(Exception):
    """The task that pulled for everybody was cancelled."""


class LocalImages:
    """An `ImageStore` in `root`, which any number of processes may share.

    `mirrors` maps a registry to the URLs to ask before it; `certs` are directories like containerd's certs.d, see
    hosts.py; `near` is a network namespace (a path) whose own localhost is asked before this process's; `in_use` tells
    whether a container needs an image ID.
    """

    def __init__(
        self,
        root: Path,
        *,
        mirrors: Mapping[str, Sequence[str]] | None = None,
        certs: Sequence[Path] = (),
        near: str = "",
        clock: Clock | None = None,
        in_use: Callable[[str], bool] = lambda image: False,
    ) -> None:
        self._content = Content(root)
        self._mirrors = dict(mirrors or {})
        self._certs = tuple(certs)
        self._near = near
        self._clock = clock or SystemClock()
        self._in_use = in_use
        self._pulls: dict[tuple[str, tuple[Credential, ...]], asyncio.Future[Image]] = {}
        self._slots = asyncio.Semaphore(LAYERS_AT_ONCE)

    async def load(self, path: str) -> Sequence[Image]:
        return await asyncio.to_thread(self._load, Path(path))

    async def pull(self, reference: str, credentials: Sequence[Credential] = ()) -> Image:
        wanted = parse(reference)
        pinned = await asyncio.to_thread(self._pinned, wanted)
        if pinned is not None:
            return pinned
        key = (str(wanted), tuple(credentials))
        while (running := self._pulls.get(key)) is not None:
            try:
                return await asyncio.shield(running)
            except _InterruptedPull:
                continue  # who began it has gone: go on with it
        future: asyncio.Future[Image] = asyncio.get_running_loop().create_future()
        self._pulls[key] = future
        try:
            image = await self._pull(wanted, tuple(credentials))
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else _InterruptedPull())
            future.exception()  # looked at: nobody else may be waiting
            raise
        else:
            future.set_result(image)
            return image
        finally:
            del self._pulls[key]

    async def get(self, reference: str) -> Image | None:
        return await asyncio.to_thread(self._get, reference)

    async def list(self) -> Sequence[Image]:
        return await asyncio.to_thread(self._list)

    async def changes(self) -> AsyncIterator[None]:
        told = asyncio.Event()
        watch = DirectoryWatch(self._content.root, told.set)
        try:
            seen = self._content.stamp()
            while True:
                await told.wait()
                told.clear()
                if (now := self._content.stamp()) != seen:
                    seen = now
                    yield
        finally:
            watch.close()

    async def remove(self, reference: str) -> None:
        await asyncio.to_thread(self._remove, reference)

    def layers(self, image_id: str) -> tuple[Path, ...]:
        """The directories of an image's layers, topmost first, as overlayfs' lowerdir wants them.

        Raises NoSuchImage."""
        config = self._content.config(image_id)
        if config is None:
            raise NoSuchImage(f"image {image_id} is not here")
        return tuple(self._content.layer(diff_id) for diff_id in reversed(diff_ids(config)))

    def _load(self, path: Path) -> Sequence[Image]:
        loaded = []
        with Archive(path) as archive, self._content.adding():
            for item in archive.images():
                image = self._content.add_config(item.config)
                config = self._config(image)
                members = dict(zip(_checked(diff_ids(config), item.layers, path), item.layers, strict=True))
                sizes = {}
                for diff_id, member in members.items():
                    if not self._content.has_layer(diff_id):
                        with archive.open(member) as source:
                            sizes[diff_id] = self._content.add_layer(diff_id, source)
                with self._content.changing() as names:
                    _add_sizes(names, sizes)
                    for tag in item.tags:
                        names.tags[str(tag)] = image
                        names.pinned.add(str(tag))
                        if item.digest:
                            names.digests[str(tag.with_digest(item.digest))] = image
                    if not item.tags:
                        names.digests[f"<none>@{image}"] = image
                    loaded.append(self._image(image, names))
        return loaded

    async def _pull(self, wanted: Reference, credentials: tuple[Credential, ...]) -> Image:
        """Ask each endpoint as each user; the first that has it wins, the most telling failure is raised."""
        failures: list[TiphysError] = []
        for place in self._places(wanted):
            for credential in credentials or (Credential(),):
                try:
                    with self._content.adding():
                        return await self._pull_from(_speaking(place, wanted, credential), wanted)
                except registry.Unauthorized as error:
                    failures.append(error)
                except (NoSuchImage, Retry) as error:
                    failures.append(error)
                    break
        raise _told(wanted, _most_telling(failures))

    def _places(self, wanted: Reference) -> Sequence[Endpoint]:
        """Mirrors, what certs.d says, the registry itself; tags are asked of those that may resolve them."""
        urls = registry.endpoints(wanted.registry, self._mirrors)
        count = len(self._mirrors.get(wanted.registry, ()))
        own = [Endpoint(url) for url in urls[count:]]
        places = [*map(Endpoint, urls[:count]), *hosts.endpoints(wanted.registry, own, self._certs)]
        if self._near:
            local = [place for place in places if registry.is_loopback(urlsplit(place.url).netloc)]
            places = [*(replace(place, near=self._near) for place in local), *places]
        return [place for place in places if place.resolve or wanted.digest]

    async def _pull_from(self, endpoint: registry.Registry, wanted: Reference) -> Image:
        manifest, digest = await endpoint.manifest(wanted.version)
        top = digest
        while "manifests" in manifest:
            manifest, digest = await endpoint.manifest(choose(manifest["manifests"]))
        wanted_config, blobs = registry.contents(manifest, endpoint.url)
        data = await endpoint.blob(wanted_config.digest)
        image = await asyncio.to_thread(self._content.add_config, data)
        config = await asyncio.to_thread(self._config, image)
        layers = _checked(diff_ids(config), blobs, endpoint.url)
        sizes: dict[str, int] = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                for diff_id, layer in zip(layers, blobs, strict=True):
                    tasks.create_task(self._fetch(endpoint, diff_id, layer, sizes))
        except* TiphysError as group:
            raise _first(group) from group
        return await asyncio.to_thread(self._record, wanted, image, {top, digest}, sizes)

    async def _fetch(
        self, endpoint: registry.Registry, diff_id: str, layer: registry.Blob, sizes: dict[str, int]
    ) -> None:
        async with self._slots:
            if self._content.has_layer(diff_id):
                return
            with self._content.download_file() as file:
                await endpoint.download(layer.digest, layer.size, file)
                sizes[diff_id] = await asyncio.to_thread(self._content.add_layer_file, diff_id, file)

    def _record(self, wanted: Reference, image: str, digests: set[str], sizes: dict[str, int]) -> Image:
        with self._content.changing() as names:
            _add_sizes(names, sizes)
            if wanted.tag and not wanted.digest:  # who names both means what the digest says, whatever the tag is
                names.tags[str(Reference(wanted.registry, wanted.path, wanted.tag))] = image
            for digest in digests:
                names.digests[str(wanted.with_digest(digest))] = image
            return self._image(image, names)

    def _pinned(self, wanted: Reference) -> Image | None:
        names = self._content.names()
        return self._image(names.tags[str(wanted)], names) if str(wanted) in names.pinned else None

    def _get(self, reference: str) -> Image | None:
        names = self._content.names()
        image = _find(names, reference)
        return self._image(image, names) if image else None

    def _list(self) -> Sequence[Image]:
        names = self._content.names()
        return sorted((self._image(image, names) for image in names.images()), key=lambda image: (image.tags, image.id))

    def _remove(self, reference: str) -> None:
        with self._content.changing() as names:
            image = _find(names, reference)
            if image is None:
                raise NoSuchImage(f"no image {reference!r}")
            tag = _named_tag(names, reference)
            others = [name for name, found in names.tags.items() if found == image and name != tag]
            if tag and others:
                _forget(names, lambda name: name == tag)
            elif self._in_use(image):
                raise ImageInUse(f"image {reference!r} is used by a container")
            else:
                doomed = image
                _forget(names, lambda name: names.tags.get(name, names.digests.get(name)) == doomed)
            self._content.collect(names)

    def _config(self, image: str) -> dict[str, Any]:
        """An image's configuration, its types checked. Raises NoSuchImage, InvalidSpec."""
        config = self._content.config(image)
        if config is None:
            raise NoSuchImage(f"image {image} is not here")
        _image_config(config.get("config") or {})
        return config

    def _image(self, image: str, names: Names) -> Image:
        config = self._config(image)
        tags = tuple(sorted(name for name, found in names.tags.items() if found == image))
        digests = tuple(
            sorted(name for name, found in names.digests.items() if found == image and not name.startswith("<none>"))
        )
        return Image(
            id=image,
            tags=tags,
            digests=digests,
            size=sum(names.sizes.get(diff_id.removeprefix("sha256:"), 0) for diff_id in diff_ids(config)),
            config=_image_config(config.get("config") or {}),
            pinned=any(tag in names.pinned for tag in tags),
        )


def _speaking(place: Endpoint, wanted: Reference, credential: Credential) -> registry.Registry:
    name, tls = registry.repository_at(place.url, wanted), place.context()
    return registry.Registry(place.url, name, credential, place.root, tls, place.headers, place.namespace, place.near)


def _told(wanted: Reference, worst: TiphysError) -> TiphysError:
    """The failure of a pull as containerd words it, for the user."""
    resolving = f'failed to resolve reference "{wanted}": '
    if isinstance(worst, registry.Unauthorized):
        denied = "pull access denied, repository does not exist or may require authorization"
        text = f"{resolving}{denied}: authorization failed: {worst}"
    elif isinstance(worst, NoSuchPlatform):
        text = str(worst)
    elif isinstance(worst, NoSuchImage):
        text = f"{resolving}{wanted}: not found"
    else:
        text = f"{resolving}{worst}"
    told = NoSuchImage if isinstance(worst, NoSuchImage) else type(worst)
    failure = told(f'failed to pull and unpack image "{wanted}": {text}')
    failure.__cause__ = worst
    return failure


def _checked(layers: list[str], found: Sequence[Any], where: object) -> list[str]:
    if len(layers) != len(found):
        raise InvalidSpec(f"{where}: the manifest has {len(found)} layers, the configuration {len(layers)}")
    return layers


def _add_sizes(names: Names, sizes: Mapping[str, int]) -> None:
    names.sizes.update({diff_id.removeprefix("sha256:"): size for diff_id, size in sizes.items()})


def _find(names: Names, reference: str) -> str | None:
    """By tag, digest, ID, or the beginning of an ID."""
    bare = reference.removeprefix("sha256:")
    if len(bare) >= SHORTEST_ID and set(bare) <= set("0123456789abcdef"):
        found = {image for image in names.images() if image.removeprefix("sha256:").startswith(bare)}
        if len(found) == 1:
            return found.pop()
    if reference.startswith("sha256:"):
        return None
    wanted = parse(reference)
    if wanted.digest:
        return names.digests.get(str(wanted.with_digest(wanted.digest)))
    return names.tags.get(str(wanted))


def _named_tag(names: Names, reference: str) -> str:
    """The tag that `reference` is; "" when it is a digest or an ID, which mean the image with all its tags."""
    if reference.startswith("sha256:") or "@" in reference:
        return ""
    tag = str(parse(reference))
    return tag if tag in names.tags else ""


def _forget(names: Names, gone: Callable[[str], bool]) -> None:
    doomed = {name for name in (*names.tags, *names.digests) if gone(name)}
    names.tags = {name: image for name, image in names.tags.items() if name not in doomed}
    names.digests = {name: image for name, image in names.digests.items() if name not in doomed}
    names.pinned -= doomed


def _most_telling(failures: Sequence[TiphysError]) -> TiphysError:
    """Credentials that do not suffice, then "not found", then trouble that may pass."""
    for kind in (registry.Unauthorized, NoSuchImage):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[-1]


def _first(group: BaseExceptionGroup[TiphysError]) -> TiphysError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _image_config(config: Mapping[str, Any]) -> ImageConfig:
    """Raises InvalidSpec for values of the wrong type."""
    try:
        return _typed_config(config)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidSpec(f"malformed image configuration: {error}") from error


def _typed_config(config: Mapping[str, Any]) -> ImageConfig:
    env = tuple(tuple(item.split("=", 1)) if "=" in item else (item, "") for item in config.get("Env") or ())
    return ImageConfig(
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        env=env,
        cwd=config.get("WorkingDir") or "/",
        user=config.get("User") or "",
        stop_signal=config.get("StopSignal") or "",
        labels=dict(config.get("Labels") or {}),
        exposed_ports=tuple(config.get("ExposedPorts") or ()),
        volumes=tuple(config.get("Volumes") or ()),
    )
