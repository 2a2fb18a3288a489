"""What containers get of claims: the path that the bound volume is, or a reason why not that goes when it is mended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tiphys.client.types import Resource

CLAIMS, VOLUMES, PODS = (Resource("", "v1", name) for name in ("persistentvolumeclaims", "persistentvolumes", "pods"))


def claim(**more: Any) -> dict[str, Any]:
    meta = {"name": "data", "namespace": "default", "uid": "claim-1"}
    return {"metadata": meta, "spec": {"volumeName": "disk"}, "status": {"phase": "Bound"}, **more}


def volume(uid: str = "claim-1", **source: Any) -> dict[str, Any]:
    return {"metadata": {"name": "disk"}, "spec": {"capacity": {}, "claimRef": {"uid": uid}, **source}}


def claiming(pod: Any, **more: Any) -> Any:
    mount = {"name": "v", "mountPath": "/v"}
    used = {"name": "v", "persistentVolumeClaim": {"claimName": "data", **more.pop("source", {})}}
    return pod(containers=[{"volumeMounts": [mount]}], volumes=[used], **more)


def mounted(node: Any) -> Any:
    return next(one for one in node.runtime.by_name("main").spec.mounts if one.target == "/v")


@pytest.mark.parametrize("kind", ["hostPath", "local"])
@pytest.mark.parametrize("readonly", [False, True])
def test_a_bound_claim_is_mounted(node: Any, pod: Any, tmp_path: Path, kind: str, readonly: bool) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.api.create(VOLUMES, volume("claim-1", **{kind: {"path": str(tmp_path)}}))
            await node.api.create(CLAIMS, claim(), "default")
            await node.create(claiming(pod, source={"readOnly": readonly}))
            await node.until(node.is_phase("Running"))
            assert (mounted(node).source, mounted(node).readonly) == (str(tmp_path), readonly)
            await node.api.delete(PODS, "web", "default")
            await node.until(node.gone)
            assert tmp_path.exists()

    node.clock.run(scenario())


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "no claim": (None, None, "error processing PVC default/data: failed to fetch PVC from API server"),
    "not bound": (claim(status={"phase": "Pending"}), None, "error processing PVC default/data: PVC is not bound"),
    "no volume": (claim(), None, 'failed to fetch PV disk from API server: persistentvolumes "disk" not found'),
    "another's": (
        claim(),
        volume("other", hostPath={"path": "/tmp"}),
        "its pv.Spec.ClaimRef.UID other does not point to claim.UID claim-1",
    ),
    "another kind": (
        claim(),
        volume(csi={}),
        'MountVolume.SetUp failed for volume "disk" : persistent volumes of type csi are not supported by this node',
    ),
    "not there": (
        claim(),
        volume(local={"path": "/nowhere/disk"}),
        'MountVolume.NewMounter initialization failed for volume "disk" : path "/nowhere/disk" does not exist',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_claim_that_cannot_be_mounted_holds_the_pod_up_until_it_can(
    node: Any, pod: Any, tmp_path: Path, case: str
) -> None:
    held, disk, text = REFUSED[case]

    async def scenario() -> None:
        async with node.running():
            for resource, namespace, made in ((CLAIMS, "default", held), (VOLUMES, "", disk)):
                if made is not None:
                    await node.api.create(resource, made, namespace)
            await node.create(claiming(pod))
            await node.until(lambda: any(text in each for each in failures(node)))
            for resource, namespace, name, made in (
                (CLAIMS, "default", "data", claim()),
                (VOLUMES, "", "disk", volume(hostPath={"path": str(tmp_path)})),
            ):
                node.api.objects[resource.plural, namespace, name] = made
            await node.until(node.is_phase("Running"))
            assert mounted(node).source == str(tmp_path)

    node.clock.run(scenario())


def failures(node: Any) -> list[str]:
    found = (obj for (plural, _, _), obj in node.api.objects.items() if plural == "events")
    return [each["message"] for each in found if each["reason"] == "FailedMount"]


def test_an_ephemeral_volume_is_the_pod_s_own_claim(node: Any, pod: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node.running():
            made = pod(containers=[{"volumeMounts": [{"name": "v", "mountPath": "/v"}]}])
            made["spec"]["volumes"] = [{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]
            await node.api.create(VOLUMES, volume(hostPath={"path": str(tmp_path)}))
            foreign = claim()
            foreign["metadata"]["name"] = "web-v"
            await node.api.create(CLAIMS, foreign, "default")
            await node.create(made)
            await node.until(lambda: any("was not created for pod default/web" in each for each in failures(node)))
            [uid] = [obj["metadata"]["uid"] for (kind, _, _), obj in node.api.objects.items() if kind == "pods"]
            node.api.objects["persistentvolumeclaims", "default", "web-v"]["metadata"]["ownerReferences"] = [
                {"controller": True, "uid": uid}
            ]
            await node.until(node.is_phase("Running"))

    node.clock.run(scenario())


def test_a_local_volume_is_given_to_the_pod_s_group_without_following_links(
    node: Any, pod: Any, tmp_path: Path
) -> None:
    disk, outside = tmp_path / "disk", tmp_path / "outside"
    (disk / "below").mkdir(parents=True)
    outside.write_text("not the pod's")
    (disk / "below" / "file").write_text("its own")
    (disk / "link").symlink_to(outside)
    before = outside.stat()

    async def scenario() -> None:
        async with node.running():
            await node.api.create(VOLUMES, volume(local={"path": str(disk)}))
            await node.api.create(CLAIMS, claim(), "default")
            group = os.getgroups()[0] if os.geteuid() else 4242
            await node.create(claiming(pod, securityContext={"fsGroup": group}))
            await node.until(node.is_phase("Running"))
            for path in (disk, disk / "below", disk / "below" / "file"):
                assert path.stat().st_gid == group
                assert path.stat().st_mode & 0o060 == 0o060
            assert (outside.stat().st_gid, outside.stat().st_mode) == (before.st_gid, before.st_mode)

    node.clock.run(scenario())


def test_a_volume_that_others_have_with_another_group_is_warned_of(node: Any, pod: Any, tmp_path: Path) -> None:
    groups = (os.getgroups()[0], os.getgroups()[0]) if os.geteuid() else (4242, 4343)

    async def scenario() -> None:
        async with node.running():
            await node.api.create(VOLUMES, volume(local={"path": str(tmp_path)}))
            await node.api.create(CLAIMS, claim(), "default")
            for name, group in zip(("web", "other"), groups, strict=True):
                made = claiming(pod, securityContext={"fsGroup": group})
                made["metadata"] |= {"name": name, "uid": f"uid-{name}"}
                await node.create(made)
                await node.until(node.is_phase("Running", name))
            text = f"The requested fsGroup is {groups[1]}, but the volume disk has GID {groups[0]}."
            expected = [f"{text} The volume may not be shareable."] if groups[0] != groups[1] else []
            assert node.events("AlreadyMountedVolume") == expected

    node.clock.run(scenario())
