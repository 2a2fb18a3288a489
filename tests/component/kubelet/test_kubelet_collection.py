"""Images that nobody uses, and what pods that are gone have left."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from tiphys.kubelet.logdirs import make_log_directory
from tiphys.runtime import types as rt
from tiphys.testing.machine import GIB


def show(node: Any, name: str, size: int = GIB, pinned: bool = False) -> None:
    node.runtime.images.shown.append(rt.Image(name, (f"{name}:latest",), (), size, rt.ImageConfig(), pinned))


def removals(node: Any, refused: dict[str, Exception] | None = None) -> list[str]:
    """What the store is asked to remove; it does, but for those refused."""
    removed: list[str] = []

    async def remove(id: str) -> None:
        if refused and id in refused:
            raise refused[id]
        removed.append(id)
        node.runtime.images.shown = [one for one in node.runtime.images.shown if one.id != id]

    node.runtime.images.remove = remove
    return removed


def warnings(node: Any, reason: str) -> list[str]:
    return [
        event["message"]
        for (plural, _, _), event in node.api.objects.items()
        if plural == "events" and event["reason"] == reason and event["type"] == "Warning"
    ]


def test_images_go_until_the_low_threshold_is_reached_but_none_in_use(node: Any, pod: Any) -> None:
    node.config = replace(node.config, eviction_hard={})
    removed = removals(node)

    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            used = node.runtime.by_name("main").spec.image
            show(node, used)
            for number in range(10):
                show(node, f"sha256:{number}", 3 * GIB)
            show(node, "sha256:loaded", 3 * GIB, pinned=True)
            await node.clock.sleep(301)
            assert removed == []
            node.machine.disk(12 * GIB)
            await node.clock.sleep(300)
            assert len(removed) == 3
            assert used not in removed
            assert "sha256:loaded" not in removed

    node.clock.run(scenario())


def test_what_cannot_be_freed_is_told_and_told_again(node: Any, pod: Any) -> None:
    node.config = replace(node.config, eviction_hard={})
    removed = removals(node, {"sha256:elsewhere": rt.ImageInUse("a container of another node needs it")})

    async def scenario() -> None:
        show(node, "sha256:elsewhere")
        node.machine.disk(5 * GIB)
        async with node.running():
            await node.clock.sleep(310)
            told = (
                "Insufficient free disk space on the node's image filesystem (95% of 100.0 GiB used). "
                "Failed to free sufficient space by deleting unused images (freed 0 bytes). "
                "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
            )
            assert warnings(node, "FreeDiskSpaceFailed") == [told]
            assert warnings(node, "ImageGCFailed") == [told]
            assert removed == []

    node.clock.run(scenario())


def test_an_image_that_is_too_old_goes_whatever_room_there_is(node: Any, pod: Any) -> None:
    node.config = replace(node.config, image_maximum_age=3600.0)
    removed = removals(node)

    async def scenario() -> None:
        async with node.running():
            show(node, "sha256:old")
            await node.clock.sleep(3500)
            assert removed == []
            await node.clock.sleep(700)
            assert removed == ["sha256:old"]

    node.clock.run(scenario())


def test_what_pods_that_are_gone_left_is_removed_and_nothing_else(node: Any, pod: Any) -> None:
    config = node.config

    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            stale = config.pod_dir("gone-uid") / "volumes" / "kubernetes.io~empty-dir" / "data"
            stale.mkdir(parents=True)
            logs = config.log_dir / "default_gone_gone-uid"
            make_log_directory(config, logs)
            (logs / "main").mkdir()
            (logs / "main" / "0.log").write_text("")
            theirs = config.log_dir / "default_theirs_their-uid"
            make_log_directory(replace(config, root_dir=config.root_dir / "other"), theirs)
            config.container_log_dir.mkdir(parents=True, exist_ok=True)
            link = config.container_log_dir / "gone_default_main-abc.log"
            link.symlink_to(logs / "main" / "0.log")
            node.runtime.cgroups.set(f"{config.cgroup_root}/kubepods/besteffort/podgone-uid", rt.Resources())
            node.runtime.cgroups.set(f"{config.cgroup_root}/kubepods/besteffort/podweb-uid", rt.Resources())
            await node.clock.sleep(130)
            assert not config.pod_dir("gone-uid").exists()
            assert config.pod_dir("web-uid").exists()
            if os.geteuid() == 0:
                assert not logs.exists()
                assert not link.is_symlink()
            assert theirs.exists()
            left = node.runtime.cgroups.children(f"{config.cgroup_root}/kubepods/besteffort")
            assert list(left) == ["podweb-uid"]

    node.clock.run(scenario())


def test_containers_of_no_pod_are_removed(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running() as kubelet:
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            labels = {"io.kubernetes.pod.uid": "gone-uid", "io.kubernetes.pod.name": "gone"}
            own = dict(node.runtime.by_name("main").spec.labels)
            theirs = own | labels | {name: "node-2" for name, value in own.items() if value == "node-1"}
            await node.runtime.create_sandbox(rt.SandboxSpec("stray", labels=own | labels))
            await node.runtime.create_sandbox(rt.SandboxSpec("foreign", labels=theirs))
            await kubelet.duties.leftovers.collect()
            assert "stray" not in node.runtime.boxes
            assert "foreign" in node.runtime.boxes
            assert len(node.runtime.boxes) == 2

    node.clock.run(scenario())


def test_dead_containers_go_when_the_disk_is_full_and_the_status_still_tells_of_them(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running() as kubelet:
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            node.runtime.exit("main", 3)
            await node.until(lambda: node.status(container="main")["restartCount"] == 1)
            assert len(node.runtime.runs) == 2
            await kubelet.duties.remove_dead_containers()
            await node.until(lambda: len(node.runtime.runs) == 1, 10)
            await node.clock.sleep(30)
            status = node.status(container="main")
            assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 3)

    node.clock.run(scenario())
