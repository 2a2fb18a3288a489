"""Pulling from a registry of our own: authorization, mirrors, platforms, checks, broken connections."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.errors import Permanent, Retry
from tiphys.runtime.images import LocalImages
from tiphys.runtime.types import Credential, NoSuchImage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices, trusted attributes")
Serving = Callable[[Any], AbstractAsyncContextManager[str]]
JANE = Credential("jane", "secret")


def pull(
    tmp_path: Path,
    serving: Serving,
    registry: Any,
    name: str,
    *credentials: Credential,
    mirror: str = "",
    times: int = 1,
) -> Any:
    """The image `name`, with HOST in it filled in; `mirror` is the registry that the test's one stands in for."""

    async def run() -> Any:
        async with serving(registry) as host:
            mirrors = {mirror: [f"http://{host}"]} if mirror else {}
            store = LocalImages(tmp_path / "images", mirrors=mirrors)
            async with asyncio.TaskGroup() as group:
                wanted = name.replace("HOST", host)
                pulls = [group.create_task(store.pull(wanted, credentials)) for _ in range(times)]
            image = pulls[0].result()
            assert all(task.result() == image for task in pulls)
            assert all(layer.is_dir() for layer in store.layers(image.id))
            return image

    try:
        return asyncio.run(run())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


def test_by_tag_and_by_digest(kit: Any, hello: Any, tmp_path: Path, serving: Serving) -> None:
    registry = kit.registry()
    registry.add("team/hello", "1", hello)
    image = pull(tmp_path, serving, registry, "HOST/team/hello:1")
    assert image.id == hello.id
    assert image.tags[0].endswith("/team/hello:1")
    assert image.digests[0].endswith(f"/team/hello@{kit.digest(hello.manifest)}")
    assert not image.pinned
    image = pull(tmp_path / "again", serving, registry, f"HOST/team/hello@{kit.digest(hello.manifest)}")
    assert (image.id, image.tags) == (hello.id, ())


def test_this_machine_s_platform_is_chosen(kit: Any, hello: Any, tmp_path: Path, serving: Serving) -> None:
    registry = kit.registry()
    top = kit.index((b"{}", "s390x"), (hello.manifest, "amd64"), (hello.manifest, "arm64"))
    registry.add("x", "1", hello, top)
    image = pull(tmp_path, serving, registry, "HOST/x:1")
    assert {digest.rpartition("@")[2] for digest in image.digests} == {kit.digest(top), kit.digest(hello.manifest)}
    registry.manifests["x:1"] = kit.index((b"{}", "s390x"))
    with pytest.raises(NoSuchImage, match="only for linux/s390x: not found"):
        pull(tmp_path, serving, registry, "HOST/x:1")


def test_identical_pulls_are_done_once(kit: Any, hello: Any, tmp_path: Path, serving: Serving) -> None:
    registry = kit.registry()
    registry.add("x", "1", hello)
    pull(tmp_path, serving, registry, "HOST/x:1", times=5)
    assert len(registry.requests) == len(set(registry.requests))


def test_layers_that_are_here_are_not_fetched_again(kit: Any, hello: Any, tmp_path: Path, serving: Serving) -> None:
    registry = kit.registry()
    registry.add("x", "1", hello)
    registry.add("x", "2", kit.image([hello.layers[0]]))
    pull(tmp_path, serving, registry, "HOST/x:1")
    registry.requests.clear()
    pull(tmp_path, serving, registry, "HOST/x:2")
    assert len(registry.requests) == 2  # manifest and configuration


@pytest.mark.parametrize("basic_only", [False, True])
def test_credentials(kit: Any, hello: Any, tmp_path: Path, serving: Serving, basic_only: bool) -> None:
    registry = kit.registry(("jane", "secret"), basic_only)
    registry.add("x", "1", hello)
    with pytest.raises(Permanent):
        pull(tmp_path, serving, registry, "HOST/x:1")
    with pytest.raises(Permanent):
        pull(tmp_path, serving, registry, "HOST/x:1", Credential("jane", "wrong"))
    image = pull(tmp_path, serving, registry, "HOST/x:1", Credential("joe", "x"), JANE)
    assert image.id == hello.id


def test_an_expired_token_is_renewed(kit: Any, hello: Any, tmp_path: Path, serving: Serving) -> None:
    class Forgetful(kit.registry):  # type: ignore[misc]
        def _content(self, request: Any, data: bytes) -> Any:
            if "/manifests/" in request.path:
                self.tokens[:] = ["somebody else's"]
            return super()._content(request, data)

    registry = Forgetful(("jane", "secret"))
    registry.add("x", "1", hello)
    assert pull(tmp_path, serving, registry, "HOST/x:1", JANE).id == hello.id


def test_mirrors_stand_in_for_their_registry(kit: Any, hello: Any, tmp_path: Path, serving: Serving) -> None:
    registry = kit.registry()
    registry.add("library/hello", "latest", hello)
    image = pull(tmp_path, serving, registry, "hello", mirror="docker.io")
    assert image.tags == ("docker.io/library/hello:latest",)


def test_a_broken_download_goes_on_where_it_broke(kit: Any, tmp_path: Path, serving: Serving) -> None:
    image = kit.image([kit.tar(kit.entry("random", os.urandom(400_000)))])
    registry = kit.registry(breaks=2)
    registry.add("x", "1", image)
    assert pull(tmp_path, serving, registry, "HOST/x:1").id == image.id
    assert registry.ranges[0] == "bytes=50000-"


@pytest.mark.parametrize("what", ["layer", "config", "manifest by digest", "layer of other size"])
def test_wrong_content_is_refused(kit: Any, hello: Any, tmp_path: Path, serving: Serving, what: str) -> None:
    registry = kit.registry()
    registry.add("x", "1", hello)
    name = "HOST/x:1"
    manifest = json.loads(hello.manifest)
    if what == "layer":
        registry.blobs[manifest["layers"][1]["digest"]] = b"x" * manifest["layers"][1]["size"]
    elif what == "config":
        registry.blobs[manifest["config"]["digest"]] = b"{}"
    elif what == "layer of other size":
        registry.blobs[manifest["layers"][1]["digest"]] += b"x"
    else:
        name = f"HOST/x@{kit.digest(b'other')}"
        registry.manifests[f"x@{kit.digest(b'other')}"] = hello.manifest
    with pytest.raises(Permanent):
        pull(tmp_path, serving, registry, name)
    assert asyncio.run(LocalImages(tmp_path / "images").list()) == []


@pytest.mark.parametrize(
    "manifest",
    [b"[]", b"7", b"{}", b'{"schemaVersion":2}', b'{"schemaVersion":2,"config":{},"layers":[]}',
     b'{"schemaVersion":2,"manifests":[7]}', b'{"schemaVersion":1}', b"<html>"],
)  # fmt: skip
def test_nonsense_for_a_manifest_is_refused(
    kit: Any, hello: Any, tmp_path: Path, serving: Serving, manifest: bytes
) -> None:
    registry = kit.registry()
    registry.add("x", "1", hello)
    registry.manifests["x:1"] = manifest
    with pytest.raises((Permanent, NoSuchImage)):
        pull(tmp_path, serving, registry, "HOST/x:1")


def test_absent_images_and_absent_registries_are_told_apart(kit: Any, tmp_path: Path, serving: Serving) -> None:
    with pytest.raises(NoSuchImage, match="not found"):
        pull(tmp_path, serving, kit.registry(), "HOST/x:1")
    with pytest.raises(Retry):
        pull(tmp_path, serving, kit.registry(), "127.0.0.1:1/x:1")
    with pytest.raises(Retry, match="maintenance"):
        pull(tmp_path, serving, kit.registry(unavailable=True), "HOST/x:1")


def test_a_loaded_image_answers_pulls_of_its_tag_until_it_is_removed(
    kit: Any, hello: Any, tmp_path: Path, saved: Callable[[bytes], str]
) -> None:
    store = LocalImages(tmp_path / "images", mirrors={"docker.io": ["http://127.0.0.1:1"]})

    async def run() -> None:
        await store.load(saved(kit.docker_archive(hello, "registry.invalid/hello:1")))
        image = await store.pull("registry.invalid/hello:1")
        assert (image.id, image.pinned) == (hello.id, True)
        await store.remove("registry.invalid/hello:1")
        with pytest.raises(Retry):
            await store.pull("127.0.0.1:1/hello:1")

    asyncio.run(run())


def test_a_pull_goes_on_when_the_one_who_began_it_goes(kit: Any, hello: Any, tmp_path: Path, serving: Serving) -> None:
    class Slow(kit.registry):  # type: ignore[misc]
        begun, go = asyncio.Event(), asyncio.Event()

        async def handle(self, request: Any) -> Any:
            self.begun.set()
            await self.go.wait()
            return await super().handle(request)

    async def run() -> None:
        registry = Slow()
        registry.add("x", "1", hello)
        async with serving(registry) as host, asyncio.TaskGroup() as group:
            store = LocalImages(tmp_path / "images")
            first = group.create_task(store.pull(f"{host}/x:1"))
            others = [group.create_task(store.pull(f"{host}/x:1")) for _ in range(2)]
            await registry.begun.wait()
            first.cancel()
            registry.go.set()
            assert {(await other).id for other in others} == {hello.id}

    asyncio.run(run())
