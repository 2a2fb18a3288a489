"""Objects of storage through every verb and status, as the suite asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Play = Callable[..., None]
STORAGE = "/apis/storage.k8s.io/v1"
VOLUMES = "/api/v1/persistentvolumes"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
PODS = "/api/v1/namespaces/default/pods"
CONTROLLERS = (
    "serviceaccount,persistentvolume-binder,pvc-protection,pv-protection,volumeattributesclass-protection-controller"
)

BODIES: dict[str, dict[str, Any]] = {
    "storageclasses": {"kind": "StorageClass", "provisioner": "e2e-fake-provisioner"},
    "csidrivers": {"kind": "CSIDriver", "spec": {"volumeLifecycleModes": ["Ephemeral"]}},
    "csinodes": {"kind": "CSINode", "spec": {"drivers": []}},
    "volumeattributesclasses": {
        "kind": "VolumeAttributesClass",
        "driverName": "e2e-fake-csi-driver",
        "parameters": {"foo": "bar"},
    },
    "volumeattachments": {
        "kind": "VolumeAttachment",
        "spec": {
            "attacher": "e2e-test.storage.k8s.io",
            "nodeName": "node-1",
            "source": {"persistentVolumeName": "pv-0"},
        },
    },
    "csistoragecapacities": {"kind": "CSIStorageCapacity", "storageClassName": "e2e.example.com"},
}


def made(plural: str, name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "metadata": {"name": name, **({"labels": labels} if labels else {})},
        **BODIES[plural],
    }


def names(listed: Any) -> list[str]:
    return sorted(item["metadata"]["name"] for item in listed["items"])


async def gone(world: Any, where: str, timeout: float = 30) -> None:
    """Wait until a list has nothing."""
    for _ in range(int(timeout)):
        if not (await world.ok("GET", where))["items"]:
            return
        await world.clock.sleep(1)
    raise AssertionError(await world.ok("GET", where))


@pytest.mark.parametrize("plural", sorted(set(BODIES) - {"csistoragecapacities"}))
def test_an_object_of_storage_lives_through_every_verb(play: Play, plural: str) -> None:
    where = f"{STORAGE}/{plural}"

    async def scenario(world: Any) -> None:
        first = await world.ok("POST", where, made(plural, "one"))
        got = await world.ok("GET", f"{where}/one")
        assert got["metadata"]["uid"] == first["metadata"]["uid"]
        patched = await world.patch(f"{where}/one", {"metadata": {"labels": {"one": "patched"}}}, "strategic")
        assert patched["metadata"]["labels"] == {"one": "patched"}
        assert names(await world.ok("GET", f"{where}?labelSelector=one%3Dpatched")) == ["one"]
        await world.ok("DELETE", f"{where}/one")
        await gone(world, f"{where}?labelSelector=one%3Dpatched")
        await world.ok("POST", where, made(plural, "two"))
        current = await world.ok("GET", f"{where}/two")
        current["metadata"]["labels"] = {"two": "updated"}
        updated = await world.ok("PUT", f"{where}/two", current)
        assert updated["metadata"]["labels"] == {"two": "updated"}
        assert names(await world.ok("GET", f"{where}?labelSelector=two%3Dupdated")) == ["two"]
        await world.ok("DELETE", f"{where}?labelSelector=two%3Dupdated")
        await gone(world, where)

    play(scenario, controllers=CONTROLLERS)


def test_storage_capacities_are_discovered_and_live_through_every_verb(play: Play) -> None:
    plural = "csistoragecapacities"
    where = f"{STORAGE}/namespaces/default/{plural}"

    async def scenario(world: Any) -> None:
        groups = {each["name"]: each for each in (await world.ok("GET", "/apis"))["groups"]}
        assert "v1" in {each["version"] for each in groups["storage.k8s.io"]["versions"]}
        assert "v1" in {each["version"] for each in (await world.ok("GET", "/apis/storage.k8s.io"))["versions"]}
        resources = {each["name"]: each for each in (await world.ok("GET", STORAGE))["resources"]}
        verbs = {"create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"}
        assert verbs <= set(resources[plural]["verbs"])
        for name in ("one", "two", "three"):
            await world.ok("POST", where, made(plural, name, test="capacities"))
        assert names(await world.ok("GET", f"{STORAGE}/{plural}?labelSelector=test%3Dcapacities")) == [
            "one", "three", "two",
        ]  # fmt: skip
        patched = await world.patch(f"{where}/one", {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        patched["metadata"]["annotations"]["updated"] = "true"
        updated = await world.ok("PUT", f"{where}/one", patched)
        assert updated["metadata"]["annotations"]["updated"] == "true"
        await world.ok("DELETE", f"{where}/one")
        assert (await world.http("GET", f"{where}/one")).status == 404
        await world.ok("DELETE", f"{where}?labelSelector=test%3Dcapacities")
        await gone(world, where)

    play(scenario, controllers="", nodes=0)


def volume(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {"volumes": "yes"}},
        "spec": {
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "suite",
            "csi": {"driver": "inline-driver", "volumeHandle": "e2e-conformance"},
        },
    }


def claim(name: str) -> dict[str, Any]:
    modes = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]
    spec = {"accessModes": modes, "storageClassName": "suite", "resources": {"requests": {"storage": "2Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def test_volumes_and_claims_live_through_every_verb(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", VOLUMES, volume("pv"))
        await world.ok("POST", CLAIMS, claim("pvc"))
        assert names(await world.ok("GET", f"{VOLUMES}?labelSelector=volumes%3Dyes")) == ["pv"]
        assert names(await world.ok("GET", CLAIMS)) == ["pvc"]
        for one in (f"{VOLUMES}/pv", f"{CLAIMS}/pvc"):
            before = await world.ok("GET", one)
            patched = await world.patch(one, {"metadata": {"labels": {"one": "patched"}}}, "strategic")
            assert patched["metadata"]["labels"]["one"] == "patched"
            assert int(patched["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
            assert (await world.ok("GET", one))["metadata"]["uid"] == patched["metadata"]["uid"]
        await world.ok("DELETE", f"{CLAIMS}/pvc")
        await gone(world, CLAIMS)
        await world.ok("DELETE", f"{VOLUMES}/pv")
        await gone(world, f"{VOLUMES}?labelSelector=volumes%3Dyes")
        await world.ok("POST", VOLUMES, volume("pv2"))
        await world.ok("POST", CLAIMS, claim("pvc2"))
        await world.clock.sleep(1)
        for one in (f"{VOLUMES}/pv2", f"{CLAIMS}/pvc2"):
            current = await world.ok("GET", one)
            current["metadata"].setdefault("labels", {})["two"] = "updated"
            assert (await world.ok("PUT", one, current))["metadata"]["labels"]["two"] == "updated"
        everywhere = "/api/v1/persistentvolumeclaims?labelSelector=two%3Dupdated"
        assert names(await world.ok("GET", everywhere)) == ["pvc2"]
        await world.ok("DELETE", f"{CLAIMS}?labelSelector=two%3Dupdated")
        await gone(world, CLAIMS)
        await world.ok("DELETE", f"{VOLUMES}?labelSelector=two%3Dupdated")
        await gone(world, VOLUMES)

    play(scenario, controllers=CONTROLLERS)


def condition(type: str) -> dict[str, str]:
    return {"type": type, "status": "True", "reason": f"E2E {type}", "message": "Set from e2e test"}


def test_what_clients_write_into_the_status_of_volumes_and_claims_stays(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", VOLUMES, volume("pv"))
        await world.ok("POST", CLAIMS, claim("pvc"))
        assert (await world.ok("GET", f"{CLAIMS}/pvc/status"))["status"]["phase"] in ("Pending", "Bound")
        assert (await world.ok("GET", f"{VOLUMES}/pv/status"))["status"]["phase"] in ("Available", "Bound", "Pending")
        await world.clock.sleep(1)
        patched = await world.patch(f"{CLAIMS}/pvc/status", {"status": {"conditions": [condition("StatusPatched")]}})
        assert patched["status"]["conditions"][0]["reason"] == "E2E StatusPatched"
        words = {"reason": "E2E patchStatus", "message": "StatusPatched"}
        patched = await world.patch(f"{VOLUMES}/pv/status", {"status": words})
        assert words.items() <= patched["status"].items()
        await world.clock.sleep(60)
        current = await world.ok("GET", f"{CLAIMS}/pvc")
        assert current["status"]["phase"] == "Bound"
        current["status"]["conditions"].append(condition("StatusUpdated"))
        updated = await world.ok("PUT", f"{CLAIMS}/pvc/status", current)
        assert [each["type"] for each in updated["status"]["conditions"]] == ["StatusPatched", "StatusUpdated"]
        current = await world.ok("GET", f"{VOLUMES}/pv")
        assert words.items() <= current["status"].items()
        words = {"reason": "E2E updateStatus", "message": "StatusUpdated"}
        updated = await world.ok("PUT", f"{VOLUMES}/pv/status", {**current, "status": {**current["status"], **words}})
        assert words.items() <= updated["status"].items()

    play(scenario, controllers=CONTROLLERS)


def test_what_clients_write_into_the_status_of_an_attachment_stays(play: Play) -> None:
    where = f"{STORAGE}/volumeattachments"

    async def scenario(world: Any) -> None:
        await world.ok("POST", where, made("volumeattachments", "va"))
        assert (await world.ok("GET", f"{where}/va/status"))["status"]["attached"] is False
        patched = await world.patch(f"{where}/va/status", {"status": {"attached": True}})
        assert patched["status"]["attached"] is True
        current = await world.ok("GET", f"{where}/va")
        current["status"]["attached"] = False
        assert (await world.ok("PUT", f"{where}/va/status", current))["status"]["attached"] is False
        await world.ok("DELETE", f"{where}/va")
        await gone(world, where)

    play(scenario, controllers=CONTROLLERS)


def test_drivers_are_deleted_one_by_one_and_as_a_collection(play: Play) -> None:
    where = f"{STORAGE}/csidrivers"

    async def scenario(world: Any) -> None:
        for name in ("one", "two"):
            await world.ok("POST", where, made("csidrivers", name, drivers="yes"))
        await world.patch(f"{where}/one", {"metadata": {"labels": {"one": "patched"}}}, "strategic")
        current = await world.ok("GET", f"{where}/two")
        current["metadata"]["labels"]["two"] = "updated"
        await world.ok("PUT", f"{where}/two", current)
        assert names(await world.ok("GET", f"{where}?labelSelector=drivers%3Dyes")) == ["one", "two"]
        await world.ok("DELETE", f"{where}/one")
        await world.ok("DELETE", f"{where}?labelSelector=two%3Dupdated")
        await gone(world, where)

    play(scenario, controllers="", nodes=0)


def test_pods_with_volumes_of_drivers_live_through_every_verb(play: Play) -> None:
    source = {"driver": "inline-driver", "volumeAttributes": {"foo": "bar"}}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "labels": {"inline": "yes"}},
        "spec": {
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/mnt"}]}],
            "volumes": [{"name": "v", "csi": source}],
        },
    }

    async def scenario(world: Any) -> None:
        driver = {**made("csidrivers", "inline-driver")}
        await world.ok("POST", f"{STORAGE}/csidrivers", driver)
        await world.ok("POST", PODS, body)
        got = await world.ok("GET", f"{PODS}/pod")
        assert source.items() <= got["spec"]["volumes"][0]["csi"].items()
        assert names(await world.ok("GET", f"{PODS}?labelSelector=inline%3Dyes")) == ["pod"]
        patched = await world.patch(f"{PODS}/pod", {"metadata": {"labels": {"patched": "true"}}}, "strategic")
        assert patched["metadata"]["labels"]["patched"] == "true"
        await world.ok("DELETE", f"{PODS}/pod", {"kind": "DeleteOptions", "gracePeriodSeconds": 0})
        await gone(world, PODS)

    play(scenario, controllers=CONTROLLERS)
