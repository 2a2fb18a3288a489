"""Loading, finding and removing images."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.images import LocalImages
from tiphys.runtime.types import InvalidSpec, NoSuchImage, RuntimeFailure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices, trusted attributes")
Save = Callable[[bytes], str]
NAME = "docker.io/library/hello:1"


@pytest.fixture
def store(tmp_path: Path) -> LocalImages:
    return LocalImages(tmp_path / "images")


def load(store: LocalImages, path: str) -> Any:
    return asyncio.run(store.load(path))


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_docker_archives(kit: Any, hello: Any, store: LocalImages, saved: Save, pack: Callable[[bytes], bytes]) -> None:
    (image,) = load(store, saved(pack(kit.docker_archive(hello, "hello:1"))))
    assert (image.id, image.tags, image.pinned) == (hello.id, (NAME,), True)
    assert image.config.command == ("/hello",)
    assert image.config.env == (("A", "b=c"), ("EMPTY", ""))
    assert (image.config.cwd, image.config.user) == ("/w", "7")
    assert image.size == 500_006
    upper, lower = store.layers(image.id)
    assert (upper / "hello").read_bytes() == b"two"
    assert (lower / "hello").read_bytes() == b"one"
    assert upper.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("nested", [False, True])
def test_oci_layouts(kit: Any, hello: Any, store: LocalImages, saved: Save, nested: bool) -> None:
    top = kit.index((b"{}", "s390x"), (hello.manifest, "amd64"), (hello.manifest, "arm64")) if nested else b""
    (image,) = load(store, saved(kit.oci_archive(hello, NAME, top=top)))
    assert (image.id, image.tags) == (hello.id, (NAME,))
    assert image.digests == (f"docker.io/library/hello@{kit.digest(hello.manifest)}",)


def test_images_without_a_name_are_found_by_id(kit: Any, hello: Any, store: LocalImages, saved: Save) -> None:
    load(store, saved(kit.oci_archive(hello)))
    for reference in (hello.id, hello.id[7:19], hello.id[:20]):
        found = asyncio.run(store.get(reference))
        assert found is not None
        assert (found.id, found.tags, found.pinned) == (hello.id, (), False)
    assert asyncio.run(store.get("hello:1")) is None


def test_loading_again_is_harmless_and_moves_tags(kit: Any, hello: Any, store: LocalImages, saved: Save) -> None:
    load(store, saved(kit.docker_archive(hello, "hello:1", "hello:2")))
    load(store, saved(kit.docker_archive(hello, "hello:1")))
    other = kit.image([kit.tar(kit.entry("other"))])
    load(store, saved(kit.docker_archive(other, "hello:2")))
    found = {image.id: image.tags for image in asyncio.run(store.list())}
    assert found == {hello.id: (NAME,), other.id: ("docker.io/library/hello:2",)}


def test_another_process_sees_what_was_loaded(kit: Any, hello: Any, tmp_path: Path, saved: Save) -> None:
    load(LocalImages(tmp_path / "images"), saved(kit.docker_archive(hello, "hello:1")))
    assert asyncio.run(LocalImages(tmp_path / "images").get("hello:1")) is not None


def broken_archives(kit: Any, image: Any) -> dict[str, bytes]:
    config = json.dumps({"rootfs": {"diff_ids": [kit.digest(b"else")]}}).encode()
    entry, tar = kit.entry, kit.tar
    listed = json.dumps([{"Config": "c", "Layers": ["l"]}]).encode()
    return {
        "garbage": b"nonsense",
        "empty": b"",
        "neither": tar(entry("a", b"b")),
        "truncated": kit.docker_archive(image, "x")[:5000],
        "wrong layer": tar(entry("manifest.json", listed), entry("c", config), entry("l", tar(entry("a")))),
        "layer missing": tar(entry("manifest.json", listed), entry("c", config)),
        "layer is no tar": tar(entry("manifest.json", listed), entry("c", config), entry("l", b"x" * 2000)),
        "layer is broken gzip": tar(
            entry("manifest.json", listed), entry("c", config), entry("l", gzip.compress(b"x" * 9999)[:20])
        ),
        "layer is zstd": tar(
            entry("manifest.json", listed), entry("c", config), entry("l", b"\x28\xb5\x2f\xfd" + b"x" * 99)
        ),
        "manifest is no json": tar(entry("manifest.json", b"{")),
        "manifest is a number": tar(entry("manifest.json", b"7")),
        "manifest of numbers": tar(entry("manifest.json", b"[7]")),
        "config is no json": tar(entry("manifest.json", listed), entry("c", b"x"), entry("l", b"")),
        "config is a list": tar(entry("manifest.json", listed), entry("c", b"[]"), entry("l", b"")),
        "index without digest": tar(entry("index.json", b'{"manifests":[{}]}')),
        "index to nowhere": tar(entry("index.json", b'{"manifests":[{"digest":"sha256:x"}]}')),
        "digest climbs": tar(entry("index.json", b'{"manifests":[{"digest":"../../etc:passwd"}]}')),
    }


def test_broken_archives_are_refused_and_leave_nothing(
    kit: Any, hello: Any, store: LocalImages, saved: Save, tmp_path: Path
) -> None:
    for what, data in broken_archives(kit, hello).items():
        try:
            load(store, saved(data))
        except (InvalidSpec, NoSuchImage):
            continue
        pytest.fail(f"{what}: no error")
    assert asyncio.run(store.list()) == []
    assert list((tmp_path / "images/layers").iterdir()) == []


def test_a_missing_file_is_refused(store: LocalImages, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="No such file"):
        load(store, str(tmp_path / "absent"))


def test_removing_tags_then_the_image(kit: Any, hello: Any, store: LocalImages, saved: Save, tmp_path: Path) -> None:
    other = kit.image([hello.layers[0]])
    load(store, saved(kit.docker_archive(hello, "hello:1", "hello:2")))
    load(store, saved(kit.docker_archive(other, "other")))
    asyncio.run(store.remove("hello:1"))
    assert [image.tags for image in asyncio.run(store.list()) if image.id == hello.id] == [
        ("docker.io/library/hello:2",)
    ]
    asyncio.run(store.remove("hello:2"))
    assert [image.id for image in asyncio.run(store.list())] == [other.id]
    assert len(list((tmp_path / "images/layers").iterdir())) == 1
    asyncio.run(store.remove(other.id[7:20]))
    assert asyncio.run(store.list()) == []
    assert list((tmp_path / "images/layers").iterdir()) == []
    with pytest.raises(NoSuchImage):
        asyncio.run(store.remove("other"))


def test_removing_by_id_takes_all_tags(kit: Any, hello: Any, store: LocalImages, saved: Save) -> None:
    load(store, saved(kit.docker_archive(hello, "hello:1", "hello:2")))
    asyncio.run(store.remove(hello.id[7:19]))
    assert asyncio.run(store.list()) == []


def test_used_images_stay(kit: Any, hello: Any, tmp_path: Path, saved: Save) -> None:
    store = LocalImages(tmp_path / "images", in_use=lambda image: image == hello.id)
    load(store, saved(kit.docker_archive(hello, "hello:1")))
    with pytest.raises(RuntimeFailure, match="used by a container"):
        asyncio.run(store.remove("hello:1"))
    assert asyncio.run(store.get("hello:1")) is not None


def test_what_a_killed_process_left_is_cleaned(kit: Any, hello: Any, tmp_path: Path, saved: Save) -> None:
    store = LocalImages(tmp_path / "images")
    left = tmp_path / "images/layers/.999999999-abcd"
    deep = left
    for _ in range(3):
        deep = deep / "d"
    deep.mkdir(parents=True)
    load(store, saved(kit.docker_archive(hello, "hello:1")))
    assert not left.exists()


OVERLAY = """
mkdir "$1/up" "$1/work" "$1/merged"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/up,workdir=$1/work" "$1/merged"
cd "$1/merged" && find . -type f | sort
"""


def test_overlayfs_shows_what_the_layers_say(kit: Any, tmp_path: Path, saved: Save) -> None:
    entry, tar = kit.entry, kit.tar
    lower = tar(*(entry(name, b"old") for name in ("gone", "kept", "d/old", "opaque/old", "again/old", "file/x")))
    upper = tar(
        entry(".wh.gone"),
        entry("opaque/.wh..wh..opq"),
        entry("opaque/new"),
        entry("d/new"),
        entry("again/new"),
        entry(".wh.again"),
        entry("file", b"now a file"),
    )
    store = LocalImages(tmp_path / "images")
    (image,) = load(store, saved(kit.docker_archive(kit.image([lower, upper]), "x")))
    stack = ":".join(map(str, store.layers(image.id)))
    (tmp_path / "mount").mkdir()
    command = ["unshare", "-m", "sh", "-e", "-c", OVERLAY, "sh", str(tmp_path / "mount"), stack]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if "mount" in shown.stderr or "unshare" in shown.stderr:
        pytest.skip(f"no overlayfs here: {shown.stderr}")
    assert shown.stdout.split() == ["./again/new", "./d/new", "./d/old", "./file", "./kept", "./opaque/new"]


def test_very_deep_layers_are_refused_and_cleaned(kit: Any, tmp_path: Path, saved: Save) -> None:
    import tarfile

    entries = []
    prefix = ""
    for level in range(20):  # each symlink leads deeper than one path could
        entries.append(kit.entry(f"{prefix}{'d/' * 200}x", b""))
        entries.append(kit.entry(f"l{level}", kind=tarfile.SYMTYPE, linkname=f"{prefix}{'d/' * 200}"))
        prefix = f"l{level}/"
    entries.append(kit.entry("d", b"replaces the tree"))
    image = kit.image([kit.tar(*entries)])
    store = LocalImages(tmp_path / "images")
    try:
        load(store, saved(kit.docker_archive(image, "deep")))
    except (InvalidSpec, RuntimeFailure):
        pass
    else:
        asyncio.run(store.remove("deep"))
    assert list((tmp_path / "images/layers").iterdir()) == []
