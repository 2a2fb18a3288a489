"""Rules of volumes: sizes, owners, nested mount points, waiting, what is mounted where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tiphys.kubelet.volumes import mounts
from tiphys.kubelet.volumes.atomic import write_payload
from tiphys.kubelet.volumes.commands import format_and_mount, mount_by_command
from tiphys.kubelet.volumes.emptydir import memory_size, page_size, prepare_empty_dir
from tiphys.kubelet.volumes.hostpath import prepare_host_path
from tiphys.kubelet.volumes.nested import nested_mount_points
from tiphys.kubelet.volumes.ownership import Count, give_to_group, single_user
from tiphys.kubelet.volumes.payload import File, VolumeError, clean_path
from tiphys.kubelet.volumes.references import used_volumes
from tiphys.kubelet.volumes.slowly import with_progress
from tiphys.kubelet.volumes.subpath import prepare_subpath
from tiphys.kubelet.volumes.waiting import VolumeWait
from tiphys.testing.clock import VirtualClock

GROUP = os.getgroups()[0] if os.geteuid() else 4242
MI = 1 << 20
needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    named = [{"name": f"c{number}", **container} for number, container in enumerate(containers or ({},))]
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"containers": named, **spec}}


def limited(memory: str) -> dict[str, Any]:
    return {"resources": {"limits": {"memory": memory}}}


@pytest.mark.parametrize(
    ("made", "source", "size"),
    [
        (pod(), {}, 100 * MI),
        (pod(), {"sizeLimit": "10Mi"}, 10 * MI),
        (pod(), {"sizeLimit": "1Gi"}, 100 * MI),
        (pod(limited("20Mi"), limited("20Mi")), {}, 40 * MI),
        (pod(limited("20Mi"), limited("20Mi")), {"sizeLimit": "30Mi"}, 30 * MI),
        (pod(limited("20Mi"), {}), {}, 100 * MI),
        (pod(limited("1Gi")), {}, 100 * MI),
        (pod({}, resources={"limits": {"memory": "5Mi"}}), {"sizeLimit": "0"}, 5 * MI),
    ],
)
def test_a_volume_in_memory_is_as_small_as_any_limit(made: Any, source: Any, size: int) -> None:
    assert memory_size(source, made, 100 * MI) == size


def huge(*sizes: str) -> dict[str, Any]:
    return {"resources": {"requests": {f"hugepages-{size}": "4Mi" for size in sizes}}}


def test_the_size_of_huge_pages_is_what_the_pod_asks_for() -> None:
    assert page_size("HugePages", pod(huge("2Mi"))) == "2Mi"
    assert page_size("HugePages-1Gi", pod(huge("2Mi", "1Gi"))) == "1Gi"
    with pytest.raises(VolumeError, match="can't be used if container requests multiple huge page sizes"):
        page_size("HugePages", pod(huge("2Mi", "1Gi")))
    with pytest.raises(VolumeError, match="there is no resource request for huge pages"):
        page_size("HugePages-1Gi", pod(huge("2Mi")))


def mounting(*mounted: tuple[str, str]) -> dict[str, Any]:
    return {"volumeMounts": [{"name": name, "mountPath": path} for name, path in mounted]}


def test_mount_points_inside_a_volume_are_made_for_it() -> None:
    made = pod(mounting(("v", "/d"), ("a", "/d/in"), ("b", "/d/in/side"), ("c", "/d/in2"), ("x", "/dd/y")))
    assert sorted(nested_mount_points(made, "v")) == ["in", "in2"]
    assert nested_mount_points(made, "a") == ["side"]
    assert nested_mount_points(made, "x") == []


def test_only_volumes_that_somebody_uses_count() -> None:
    reference = {"valueFrom": {"fileKeyRef": {"volumeName": "f", "path": "p", "key": "k"}}}
    device = {"volumeDevices": [{"name": "d", "devicePath": "/dev/d"}], "env": [{"name": "E", **reference}]}
    assert used_volumes(pod(mounting(("a", "/a")), device, volumes=[{"name": "idle"}])) == {"a", "d", "f"}


@pytest.mark.parametrize(
    ("made", "user"),
    [
        (pod({}), None),
        (pod({}, securityContext={"runAsUser": 7}), 7),
        (pod({"securityContext": {"runAsUser": 5}}, {"securityContext": {"runAsUser": 5}}), 5),
        (pod({"securityContext": {"runAsUser": 5}}, {"securityContext": {"runAsUser": 6}}), None),
        (pod({"securityContext": {"runAsUser": 0}}, {}, securityContext={"runAsUser": 0}), 0),
    ],
)
def test_the_one_user_of_a_pod(made: Any, user: int | None) -> None:
    assert single_user(made) == user


def test_a_volume_is_given_to_a_group_without_following_links(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    (root / "directory").mkdir(parents=True)
    (root / "directory" / "file").write_text("x")
    (root / "directory" / "file").chmod(0o600)
    outside = tmp_path / "outside"
    outside.write_text("host")
    outside.chmod(0o600)
    (root / "link").symlink_to(outside)
    give_to_group(root, GROUP, always=True)
    assert (root / "directory").stat().st_mode & 0o7777 == 0o2775
    assert (root / "directory" / "file").stat().st_mode & 0o7777 == 0o660
    assert (root / "directory" / "file").stat().st_gid == GROUP
    assert (root / "link").lstat().st_gid == GROUP
    assert (outside.stat().st_mode & 0o7777, outside.stat().st_gid) == (0o600, os.getegid())
    (root / "later").write_text("x")
    (root / "later").chmod(0o600)
    give_to_group(root, GROUP, always=False)
    assert (root / "later").stat().st_mode & 0o7777 == 0o600
    give_to_group(root, GROUP, always=True, readonly=True)
    assert (root / "later").stat().st_mode & 0o7777 == 0o640


def test_files_of_the_api_are_readable_by_the_pod_s_group_and_tokens_by_their_user(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    user = 1234 if os.geteuid() == 0 else os.geteuid()
    write_payload(root, {"token": File(b"t", 0o600, user), "deep/key": File(b"k", 0o400)}, 0.0, GROUP)
    token = (root / "token").stat()
    assert (token.st_uid, token.st_gid, token.st_mode & 0o7777) == (user, GROUP, 0o640)
    assert (root / "deep" / "key").stat().st_mode & 0o7777 == 0o440
    assert root.stat().st_gid == GROUP
    assert not write_payload(root, {"token": File(b"t", 0o600, user), "deep/key": File(b"k", 0o400)}, 1.0, GROUP)


def test_mount_points_in_a_filled_volume_stay(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    write_payload(root, {"a": File(b"1", 0o644)}, 0.0)
    (root / "nested").mkdir()
    write_payload(root, {"b": File(b"2", 0o644)}, 1.0)
    assert sorted(path.name for path in root.iterdir() if not path.name.startswith("..")) == ["b", "nested"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/a", "must be relative path: /a"),
        ("a/../b", "must not contain '..': a/../b"),
        ("..a", "must not start with '..': ..a"),
        ("", 'must not be empty: ""'),
        ("a" * 256, "filenames must be less than or equal to 255 characters"),
        ("a/" * 2100, "must be less than or equal to 4096 characters"),
    ],
)
def test_paths_that_hide_or_lead_away_are_refused(path: str, text: str) -> None:
    with pytest.raises(VolumeError) as raised:
        clean_path(path)
    assert str(raised.value) == f"invalid path: {text}"


def test_what_a_waiting_pod_is_told_and_when() -> None:
    waiting = VolumeWait()
    now, tries, told = 1000.0, 0, []
    while now < 1000 + 400:
        messages, again = waiting.failed(("why",), ("data", "conf"), now)
        told += [(now - 1000, text) for text in messages if text != "why"]
        assert now < again <= now + 122
        now, tries = again, tries + 1
    assert [at for at, _ in told] == [123.0, 246.0, 369.0]
    assert told[0][1] == (
        "Unable to attach or mount volumes: unmounted volumes=[data conf], unattached volumes=[], "
        "failed to process volumes=[]: context deadline exceeded"
    )
    assert tries < 15


def test_who_waits_for_a_big_volume_is_told_how_far_it_is() -> None:
    clock, count, said = VirtualClock(), Count(), []

    async def slow() -> str:
        for _ in range(10):
            await clock.sleep(10)
            count.files += 5
        return "done"

    async def scenario() -> None:
        def say(reason: str, message: str) -> None:
            said.append((reason, message))

        assert await with_progress(slow(), "/disk", count, clock, say) == "done"

    clock.run(scenario())
    assert {reason for reason, _ in said} == {"VolumePermissionChangeInProgress"}
    assert said[0][1].startswith("Setting volume ownership for /disk is taking longer than expected, consider using")
    assert [message for _, message in said[1:]] == ["Setting volume ownership for /disk, processed 40 files."]


@pytest.mark.skipif(not Path("/proc/fs").is_dir(), reason="needs a directory in which nobody can make one")
def test_what_hinders_a_sub_path_is_told_without_the_host_s_details(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VolumeError) as raised:
        prepare_subpath(tmp_path, "file/below", "m", "c")
    assert str(raised.value) == 'failed to prepare subPath for volumeMount "m" of container "c"'
    with pytest.raises(VolumeError) as raised:
        prepare_subpath(Path("/proc/fs"), "new", "m", "c")
    assert str(raised.value) == 'failed to create subPath directory for volumeMount "m" of container "c"'


def test_a_hidden_step_up_in_a_host_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"invalid HostPath `/a/\.\./b`: must not contain '\.\.'"):
        prepare_host_path({"path": "/a/../b"})
    for kind, noun in (("Directory", "a directory"), ("Socket", "a socket file"), ("BlockDevice", "a block device")):
        with pytest.raises(VolumeError) as raised:
            prepare_host_path({"path": str(tmp_path / "none"), "type": kind})
        assert str(raised.value) == f"hostPath type check failed: {tmp_path}/none is not {noun}"
    assert prepare_host_path({"path": str(tmp_path / "d/e"), "type": "DirectoryOrCreate"}).is_dir()
    assert prepare_host_path({"path": str(tmp_path / "f"), "type": "FileOrCreate"}).is_file()


def test_mountinfo_is_read_as_the_kernel_writes_it() -> None:
    text = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw\n"
    [point] = mounts.parse_mountinfo(text)
    assert point == mounts.MountPoint(Path("/mnt/a b\\c"), "98:0", "ext3")
    assert list(mounts.parse_mountinfo(text, Path("/mnt/a b\\c"))) == [point]
    assert list(mounts.parse_mountinfo(text, Path("/mnt/a"))) == []


@needs_mounts
def test_nothing_behind_a_mount_is_removed_with_a_pod_s_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "precious").write_text("x")
    directory = tmp_path / "pod"
    target = directory / "volumes" / "mounted"
    target.mkdir(parents=True)
    mounts.bind(data, target, ["ro"])
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").touch()
    memory = directory / "volumes" / "memory"
    memory.mkdir()
    mounts.mount_tmpfs(memory, MI)
    (memory / "secret").write_text("x")
    mounts.remove_directory(directory)
    assert not directory.exists()
    assert (data / "precious").read_text() == "x"
    mounts.remove_directory(directory)


@needs_mounts
def test_an_empty_directory_in_memory_has_its_size_mode_and_group(tmp_path: Path) -> None:
    root, ready = tmp_path / "volume", tmp_path / "plugins" / "ready"
    made = pod({}, securityContext={"fsGroup": GROUP})
    source = {"medium": "Memory", "sizeLimit": "1Mi"}
    prepare_empty_dir(root, ready, source, made, 100 * MI)
    try:
        assert os.statvfs(root).f_blocks * os.statvfs(root).f_frsize == MI
        assert (root.stat().st_mode & 0o7777, root.stat().st_gid) == (0o3777, GROUP)
        (root / "kept").write_text("x")
        prepare_empty_dir(root, ready, source, made, 100 * MI)
        assert (root / "kept").exists()
        mounts.unmount(root)
        prepare_empty_dir(root, ready, source, made, 100 * MI)
        assert mounts.is_mount_point(root)
    finally:
        mounts.remove_directory(root)


def test_an_empty_directory_that_was_half_made_is_made_again(tmp_path: Path) -> None:
    root, ready = tmp_path / "volume", tmp_path / "plugins" / "ready"
    root.mkdir(mode=0o700)
    prepare_empty_dir(root, ready, {}, pod({}, securityContext={"fsGroup": GROUP}), -1)
    assert (root.stat().st_mode & 0o7777, root.stat().st_gid) == (0o2777, GROUP)
    with pytest.raises(VolumeError, match='unknown storage medium "Floppy"'):
        prepare_empty_dir(tmp_path / "other", tmp_path / "other-ready", {"medium": "Floppy"}, pod(), 0)


@needs_mounts
def test_what_mount_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"(?s)^mount failed: exit status \d+\nMounting command: mount\n.*Output: "):
        mount_by_command("nowhere:/", tmp_path, "tiphys-none", ["ro"])


def test_an_empty_disk_is_not_formatted_to_be_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "blkid").write_text("#!/bin/sh\nexit 2\n")
    (tools / "blkid").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(
        VolumeError, match="cannot mount unformatted disk /dev/x as we are manipulating it in read-only"
    ):
        format_and_mount(Path("/dev/x"), tmp_path, "ext4", ["ro"])
