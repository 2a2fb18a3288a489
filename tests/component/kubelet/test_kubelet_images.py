"""Images of pods: volumes that are images, whose credentials are tried, who may use what is here, what is said."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.client.types import Resource
from tiphys.runtime import types as rt

PODS, SECRETS, CONFIG_MAPS = (Resource("", "v1", name) for name in ("pods", "secrets", "configmaps"))


class Private:
    """Images that only `user` may pull."""

    def __init__(self, inner: Any, user: str) -> None:
        self._inner, self._user = inner, user
        self.tried: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def pull(self, reference: str, credentials: Sequence[rt.Credential] = ()) -> rt.Image:
        users = [one.username for one in credentials]
        self.tried.append(users)
        if self._user not in users:
            raise Permanent("pull access denied")
        image: rt.Image = await self._inner.pull(reference, credentials)
        return image


class Loaded:
    """A pull is answered by what the user loaded."""

    def __init__(self, inner: Any, image: rt.Image) -> None:
        self._inner, self._image = inner, image

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def get(self, reference: str) -> rt.Image | None:
        return self._image

    async def list(self) -> list[rt.Image]:
        return [self._image]

    async def pull(self, reference: str, credentials: Sequence[rt.Credential] = ()) -> rt.Image:
        return self._image


def pull_secret(name: str, user: str, host: str = "reg.io") -> dict[str, Any]:
    config = {"auths": {host: {"username": user, "password": "x"}}}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()},
    }


def image_volume(reference: str, **more: Any) -> dict[str, Any]:
    return {"name": "v", "image": {"reference": reference, **more}}


def waiting(node: Any, name: str = "web") -> str:
    return str(node.status(name, container="main")["state"]["waiting"]["reason"])


def test_an_image_is_mounted_as_a_volume(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.images.missing.add("data")
        mounts = [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/w", "subPath": "a/./b"}]
        async with node.running():
            await node.create(pod(containers=[{"volumeMounts": mounts}], volumes=[image_volume("data")]))
            await node.until(node.is_phase("Running"))
            made = {one.target: one for one in node.runtime.by_name("main").spec.mounts}
            assert (made["/v"].image, made["/v"].source, made["/v"].readonly) == ("sha256:data", "", True)
            assert (made["/w"].image, made["/w"].source) == ("sha256:data", "a/b")
            assert node.events("Pulling") == ['Pulling image "data"']
            assert len(node.events("Pulled")) == 2

    node.clock.run(scenario())


def test_an_image_volume_that_nobody_mounts_is_not_pulled(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.images.broken["data"] = "not found"
        async with node.running():
            await node.create(pod(volumes=[image_volume("data", pullPolicy="Always")]))
            await node.until(node.is_phase("Running"))
            assert node.runtime.images.pulls == []

    node.clock.run(scenario())


def test_a_volume_s_image_that_cannot_be_had_holds_up_its_containers(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        images = node.runtime.images
        images.broken["data"] = "not found"
        mounts = [{"name": "v", "mountPath": "/v"}]
        async with node.running():
            await node.create(
                pod(containers=[{"volumeMounts": mounts}], volumes=[image_volume("data", pullPolicy="Always")])
            )
            await node.until(lambda: waiting(node) == "ErrImagePull")
            await node.until(lambda: waiting(node) == "ImagePullBackOff")
            message = node.status(container="main")["state"]["waiting"]["message"]
            assert message.startswith('Back-off pulling image "data": ErrImagePull: rpc error: code = NotFound')
            del images.broken["data"]
            await node.until(node.is_phase("Running"), 30)

    node.clock.run(scenario())


@pytest.mark.parametrize("step", ["../x", "/x"])
def test_a_part_of_an_image_does_not_lead_out_of_it(node: Any, pod: Any, step: str) -> None:
    async def scenario() -> None:
        mounts = [{"name": "v", "mountPath": "/v", "subPath": step}]
        async with node.running():
            await node.create(pod(containers=[{"volumeMounts": mounts}], volumes=[image_volume("data")]))
            await node.until(lambda: waiting(node) == "CreateContainerConfigError")

    node.clock.run(scenario())


def test_each_login_is_tried_in_turn(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.images = private = Private(node.runtime.images, "right")
        async with node.running():
            for secret in (pull_secret("one", "wrong"), pull_secret("two", "right"), pull_secret("x", "no", "else.io")):
                await node.api.create(SECRETS, secret, "default")
            references = [{"name": name} for name in ("x", "one", "absent", "two")]
            container = {"image": "reg.io/app:1", "imagePullPolicy": "Always"}
            await node.create(pod(containers=[container], imagePullSecrets=references))
            await node.until(node.is_phase("Running"))
            assert private.tried == [["wrong"], ["right"]]

    node.clock.run(scenario())


def test_all_refusals_are_told(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.images = Private(node.runtime.images, "right")
        async with node.running():
            for secret in (pull_secret("one", "a"), pull_secret("two", "b")):
                await node.api.create(SECRETS, secret, "default")
            container = {"image": "reg.io/app:1", "imagePullPolicy": "Always"}
            references = [{"name": "one"}, {"name": "two"}]
            await node.create(pod(containers=[container], imagePullSecrets=references))
            await node.until(lambda: waiting(node) == "ErrImagePull")
            denied = "rpc error: code = Unknown desc = pull access denied"
            assert node.events("Failed")[0] == f'Failed to pull image "reg.io/app:1": [{denied}, {denied}]'

    node.clock.run(scenario())


def named(pod: Any, name: str, image: str, policy: str, *secrets: str) -> Any:
    made = pod(
        containers=[{"image": image, "imagePullPolicy": policy}],
        imagePullSecrets=[{"name": secret} for secret in secrets],
    )
    made["metadata"] |= {"name": name, "uid": f"uid-{name}"}
    return made


@pytest.mark.parametrize(
    ("policy", "stranger_waits"), [("NeverVerifyPreloadedImages", True), ("AlwaysVerify", True), ("NeverVerify", False)]
)
def test_an_image_that_was_pulled_with_a_secret_is_for_those_who_have_it(
    node: Any, pod: Any, policy: str, stranger_waits: bool
) -> None:
    node.config = replace(node.config, image_verification_policy=policy)
    image = "reg.io/app:1"

    async def scenario() -> None:
        node.runtime.images.missing.add(image)
        node.runtime.images.shown.append(rt.Image(f"sha256:{image}", (image,), (), 1, rt.ImageConfig()))
        node.runtime.images = private = Private(node.runtime.images, "right")
        async with node.running():
            for made in (pull_secret("s", "right"), pull_secret("same", "right"), pull_secret("other", "wrong")):
                await node.api.create(SECRETS, made, "default")
            await node.create(named(pod, "first", image, "IfNotPresent", "s"))
            await node.until(node.is_phase("Running", "first"))
            assert private.tried == [["right"]]
        async with node.running():
            for name, secret in (("again", "s"), ("equal", "same")):
                await node.create(named(pod, name, image, "IfNotPresent", secret))
                await node.until(node.is_phase("Running", name))
            assert private.tried == [["right"]]
            for name, pulls, own in (("bare", "IfNotPresent", ()), ("never", "Never", ("other",))):
                await node.create(named(pod, name, image, pulls, *own))
                if not stranger_waits:
                    await node.until(node.is_phase("Running", name))
            if stranger_waits:
                await node.until(lambda: waiting(node, "bare") == "ErrImagePull")
                await node.until(lambda: waiting(node, "never") == "ErrImageNeverPull")
                assert private.tried == [["right"], []]

    node.clock.run(scenario())


def test_an_image_that_came_without_the_kubelet_is_for_everybody(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(named(pod, "web", "loaded", "Never"))
            await node.until(node.is_phase("Running"))
            assert node.events("Pulled") == [
                'Container image "loaded" already present on machine and can be accessed by the pod'
            ]

    node.clock.run(scenario())


def test_what_the_user_loaded_is_for_everybody_by_each_of_its_names(node: Any, pod: Any) -> None:
    names = ("reg.io/app:1", "reg.io/same:1")
    node.config = replace(node.config, image_verification_policy="NeverVerifyPreloadedImages")
    loaded = rt.Image("sha256:loaded", names, (), 1, rt.ImageConfig(command=("run",)), pinned=True)

    async def scenario() -> None:
        node.runtime.images = Loaded(node.runtime.images, loaded)
        async with node.running():
            await node.create(named(pod, "first", names[0], "Always"))
            await node.until(node.is_phase("Running", "first"))
            await node.create(named(pod, "second", names[1], "Never"))
            await node.until(node.is_phase("Running", "second"))

    node.clock.run(scenario())


def test_names_that_are_none_are_told_so(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(named(pod, "web", "Bad Name", "Always"))
            await node.until(lambda: waiting(node) == "InvalidImageName")
            text = (
                'Failed to apply default image tag "Bad Name": couldn\'t parse image name "Bad Name": '
                "invalid reference format"
            )
            assert node.events("InspectFailed") == [text]
            assert node.events("Failed") == ["Error: InvalidImageName"]

    node.clock.run(scenario())


def test_more_pulls_than_allowed_fail_for_now(node: Any, pod: Any) -> None:
    node.config = replace(node.config, registry_qps=0.1, registry_burst=1)

    async def scenario() -> None:
        async with node.running():
            for name in ("one", "two"):
                await node.create(named(pod, name, "busybox", "Always"))
            await node.until(lambda: node.is_phase("Running", "one")() or node.is_phase("Running", "two")())
            await node.until(lambda: any("pull QPS exceeded" in text for text in node.events("Failed")))
            await node.until(lambda: all(node.is_phase("Running", name)() for name in ("one", "two")), 60)

    node.clock.run(scenario())


@pytest.mark.parametrize(("strategy", "seconds"), [("Watch", 1), ("Cache", 61), ("Get", 61)])
def test_a_change_of_a_config_map_gets_to_its_volume(node: Any, pod: Any, strategy: str, seconds: float) -> None:
    node.config = replace(node.config, change_detection=strategy)
    meta = {"name": "conf", "namespace": "default"}

    async def scenario() -> None:
        mounts = [{"name": "c", "mountPath": "/c"}]
        volume = {"name": "c", "configMap": {"name": "conf"}}
        async with node.running():
            await node.api.create(CONFIG_MAPS, {"metadata": meta, "data": {"k": "1"}}, "default")
            await node.create(pod(containers=[{"volumeMounts": mounts}], volumes=[volume]))
            await node.until(node.is_phase("Running"))
            [file] = node.config.pods_dir.glob("*/volumes/kubernetes.io~configmap/c/k")
            await node.api.update(CONFIG_MAPS, {"metadata": meta, "data": {"k": "2"}}, "default")
            await node.until(lambda: file.read_text() == "2", seconds)

    node.clock.run(scenario())


def test_an_immutable_config_map_is_watched_no_more(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        mounts = [{"name": "c", "mountPath": "/c"}]
        volume = {"name": "c", "configMap": {"name": "conf"}}
        meta = {"name": "conf", "namespace": "default"}
        async with node.running():
            await node.api.create(CONFIG_MAPS, {"metadata": meta, "data": {"k": "1"}, "immutable": True}, "default")
            await node.create(pod(containers=[{"volumeMounts": mounts}], volumes=[volume]))
            await node.until(node.is_phase("Running"))
            await node.until(lambda: not node.api.watched("configmaps"))
            [file] = node.config.pods_dir.glob("*/volumes/kubernetes.io~configmap/c/k")
            assert file.read_text() == "1"

    node.clock.run(scenario())


def test_a_pod_that_waits_for_its_volumes_is_told_so_now_and_then(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        mounts = [{"name": "c", "mountPath": "/c"}, {"name": "s", "mountPath": "/s"}]
        volumes = [{"name": "c", "configMap": {"name": "none"}}, {"name": "s", "secret": {"secretName": "none"}}]
        async with node.running():
            await node.create(pod(containers=[{"volumeMounts": mounts}], volumes=volumes))
            await node.until(lambda: len(node.events("FailedMount")) >= 2, 1)
            assert sorted(set(node.events("FailedMount"))) == [
                'MountVolume.SetUp failed for volume "c" : configmap "none" not found',
                'MountVolume.SetUp failed for volume "s" : secret "none" not found',
            ]
            text = (
                "Unable to attach or mount volumes: unmounted volumes=[c s], unattached volumes=[], "
                "failed to process volumes=[]: context deadline exceeded"
            )
            assert await node.until(lambda: text in node.events("FailedMount"), 130) > 120

    node.clock.run(scenario())


def test_an_image_that_cannot_be_looked_up_is_told_so(node: Any, pod: Any) -> None:
    class Broken(Private):
        async def get(self, reference: str) -> rt.Image | None:
            raise rt.InvalidSpec("not a digest of ours")

    async def scenario() -> None:
        node.runtime.images = Broken(node.runtime.images, "")
        async with node.running():
            await node.create(named(pod, "web", "x", "IfNotPresent"))
            await node.until(lambda: waiting(node) == "ImageInspectError")
            text = 'Failed to inspect image "": rpc error: code = Unknown desc = not a digest of ours'
            assert node.events("InspectFailed")[0] == text

    node.clock.run(scenario())


def test_images_are_counted(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.images.missing.add("data")
        mounts = [{"name": "v", "mountPath": "/v"}]
        async with node.running() as kubelet:
            await node.create(pod(containers=[{"volumeMounts": mounts}], volumes=[image_volume("data")]))
            await node.until(node.is_phase("Running"))
            text = kubelet.metrics.registry.render().decode()
            requests = "kubelet_image_manager_ensure_image_requests_total"
            assert f'{requests}{{pull_policy="ifnotpresent",present_locally="false",pull_required="true"}} 1' in text
            assert f'{requests}{{pull_policy="ifnotpresent",present_locally="true",pull_required="false"}} 1' in text
            assert "kubelet_image_volume_requested_total 1" in text
            assert "kubelet_image_volume_mounted_succeed_total 1" in text
            assert "kubelet_imagemanager_ondisk_pulledrecords 1" in text

    node.clock.run(scenario())
