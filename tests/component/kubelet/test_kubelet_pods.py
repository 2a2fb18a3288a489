"""Images, volumes, environment, admission and the node itself."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.client.resources import CONFIG_MAPS, PODS, SECRETS, SERVICES
from tiphys.runtime.connectivity import Bandwidth, PortMapping
from tiphys.runtime.types import RuntimeFailure


def test_a_missing_image_is_pulled_with_its_events(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.images.missing.add("busybox")
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            await node.until(lambda: len(node.events()) == 4)
            assert node.events("Pulling") == ['Pulling image "busybox"']
            pulled = 'Successfully pulled image "busybox" in 0s (0s including waiting). Image size: 1000 bytes.'
            assert node.events("Pulled") == [pulled]

    node.clock.run(scenario())


def test_a_failing_pull_backs_off(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        images = node.runtime.images
        images.missing.add("nope")
        images.broken["nope"] = "not found"
        async with node.running():
            await node.create(pod(containers=[{"image": "nope"}]))

            def waiting() -> Any:
                return node.status(container="main")["state"]["waiting"]["reason"]

            await node.until(lambda: waiting() == "ErrImagePull")
            await node.until(lambda: waiting() == "ImagePullBackOff")
            message = node.status(container="main")["state"]["waiting"]["message"]
            assert message == 'Back-off pulling image "nope": ErrImagePull: rpc error: code = NotFound desc = not found'
            assert node.events("Failed") == [
                'Failed to pull image "nope": rpc error: code = NotFound desc = not found',
                "Error: ErrImagePull",
                "Error: ImagePullBackOff",
            ]
            await node.clock.sleep(75)
            assert len(images.pulls) == 4
            del images.broken["nope"]
            await node.until(node.is_phase("Running"), 90)

    node.clock.run(scenario())


def test_an_image_that_must_not_be_pulled_is_said_to_be_missing(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.images.missing.add("busybox")
        async with node.running():
            await node.create(pod(containers=[{"imagePullPolicy": "Never"}]))
            await node.until(lambda: "waiting" in node.status(container="main")["state"])
            await node.until(lambda: node.status(container="main")["state"]["waiting"]["reason"] == "ErrImageNeverPull")

    node.clock.run(scenario())


def test_a_new_image_replaces_the_container(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            found = dict(node.pod())
            spec = {**found["spec"], "containers": [{**found["spec"]["containers"][0], "image": "other"}]}
            await node.api.update(PODS, {**found, "spec": spec})
            await node.until(lambda: node.status(container="main")["image"].endswith("other:latest"))
            assert node.events("Killing") == ["Container main definition changed, will be restarted"]

    node.clock.run(scenario())


def test_a_pod_stays_ready_while_its_container_is_replaced_at_once(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            found = dict(node.pod())
            spec = {**found["spec"], "containers": [{**found["spec"]["containers"][0], "image": "other"}]}
            before = len(node.api.log)
            await node.api.update(PODS, {**found, "spec": spec})
            await node.until(lambda: node.status(container="main")["restartCount"] == 1)
            patches = [patch["status"] for kind, path, patch in node.api.log[before:] if path == "pods/web"]
            told = [one for status in patches for one in status.get("conditions") or () if one["type"] == "Ready"]
            assert all(one.get("status") != "False" for one in told)

    node.clock.run(scenario())


def test_a_new_image_starts_a_new_series_of_tries(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            for restart in range(4):
                count = restart
                await node.until(lambda: node.status(container="main")["restartCount"] == count)  # noqa: B023
                await node.until(lambda: "running" in node.status(container="main")["state"])
                node.runtime.exit("main", 1)
            await node.until(lambda: "waiting" in node.status(container="main")["state"])
            found = dict(node.pod())
            spec = {**found["spec"], "containers": [{**found["spec"]["containers"][0], "image": "other"}]}
            await node.api.update(PODS, {**found, "spec": spec})
            assert await node.until(lambda: "running" in node.status(container="main")["state"]) < 1
            waits = []
            for _ in range(3):
                starts = node.runtime.log.count("start main")
                node.runtime.exit("main", 1)
                waits.append(round(await node.until(lambda: node.runtime.log.count("start main") > starts)))  # noqa: B023
            assert waits == [0, 10, 20]

    node.clock.run(scenario())


def test_a_container_that_cannot_be_run_says_why(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.fails_to_start["main"] = 'exec: "nope": executable file not found in $PATH'
        async with node.running():
            await node.create(pod())
            await node.until(lambda: node.status(container="main")["restartCount"] >= 1)
            ended = node.status(container="main")["lastState"]["terminated"]
            assert ended["reason"] == "StartError"
            assert ended["exitCode"] == 128
            assert 'Error: exec: "nope": executable file not found in $PATH' in node.events("Failed")

    node.clock.run(scenario())


def test_a_config_map_reaches_files_and_environment_and_is_updated(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        config = {"metadata": {"name": "conf", "namespace": "default"}, "data": {"a": "1", "b": "two"}}
        mount = {"name": "conf", "mountPath": "/conf"}
        env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "a"}}}]
        volume = {"name": "conf", "configMap": {"name": "conf", "defaultMode": 0o644}}
        async with node.running():
            await node.create(pod(containers=[{"volumeMounts": [mount], "env": env}], volumes=[volume]))
            await node.until(lambda: node.events("FailedMount"))
            why = 'MountVolume.SetUp failed for volume "conf" : configmap "conf" not found'
            assert node.events("FailedMount") == [why]
            assert node.status()["phase"] == "Pending"
            await node.api.create(CONFIG_MAPS, config, "default")
            assert await node.until(node.is_phase("Running")) < 0.1
            spec = node.runtime.by_name("main").spec
            assert dict(spec.env)["A"] == "1"
            root = next(one.source for one in spec.mounts if one.target == "/conf")
            from pathlib import Path

            assert (Path(root) / "b").read_text() == "two"
            await node.api.update(CONFIG_MAPS, {**config, "data": {"a": "3"}}, "default")
            await node.until(lambda: (Path(root) / "a").read_text() == "3", 1)
            assert not (Path(root) / "b").exists()

    node.clock.run(scenario())


def test_a_secret_that_comes_later_lets_the_container_start(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        secret = {"metadata": {"name": "key", "namespace": "default"}, "data": {"k": "djE="}}
        env = [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]
        async with node.running():
            await node.create(pod(containers=[{"env": env}]))
            await node.until(
                lambda: node.status(container="main")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
            )
            assert node.status(container="main")["state"]["waiting"]["message"] == 'secret "key" not found'
            await node.api.create(SECRETS, secret, "default")
            assert await node.until(node.is_phase("Running")) < 0.1
            assert dict(node.runtime.by_name("main").spec.env)["K"] == "v1"

    node.clock.run(scenario())


def test_a_service_account_token_is_renewed_in_time(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
        async with node.running():
            volume = {"name": "t", "projected": {"sources": [token]}}
            mounts = [{"name": "t", "mountPath": "/t"}]
            await node.create(pod(containers=[{"volumeMounts": mounts}], volumes=[volume]))
            await node.until(node.is_phase("Running"))
            assert len([line for line in node.api.log if line[0] == "token"]) == 1
            await node.clock.sleep(3000)
            assert len([line for line in node.api.log if line[0] == "token"]) == 2
            [file] = node.config.pods_dir.glob("*/volumes/*/t/token")
            assert file.read_text().startswith("token-")

    node.clock.run(scenario())


def test_an_unsupported_volume_is_refused_aloud(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        volume = {"name": "data", "csi": {"driver": "x"}}
        mounts = [{"name": "data", "mountPath": "/data"}]
        async with node.running():
            await node.create(pod(containers=[{"volumeMounts": mounts}], volumes=[volume]))
            await node.until(lambda: node.events("FailedMount"))
            assert "volumes of type csi are not supported" in node.events("FailedMount")[0]

    node.clock.run(scenario())


def test_services_are_in_the_environment(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        spec = {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}
        await node.api.create(SERVICES, {"metadata": {"name": "kubernetes"}, "spec": spec}, "default")
        async with node.running():
            await node.create(pod(enableServiceLinks=False))
            await node.until(node.is_phase("Running"))
            env = dict(node.runtime.by_name("main").spec.env)
            assert env["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
            assert env["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
            assert env["KUBERNETES_PORT_443_TCP"] == "tcp://10.96.0.1:443"

    node.clock.run(scenario())


def test_a_pod_that_does_not_fit_is_rejected(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(containers=[{"resources": {"requests": {"cpu": "5"}}}]))
            await node.until(node.is_phase("Failed"))
            assert node.status()["reason"] == "OutOfcpu"
            why = "Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000"
            assert node.status()["message"] == f"Pod was rejected: {why}"
            assert not node.runtime.boxes

    node.clock.run(scenario())


def test_a_rejected_pod_can_be_deleted(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(nodeSelector={"disk": "ssd"}))
            await node.until(node.is_phase("Failed"))
            assert node.status()["reason"] == "NodeAffinity"
            await node.api.delete(PODS, "web", "default")
            await node.until(node.gone, 5)

    node.clock.run(scenario())


def test_a_sandbox_that_fails_is_tried_again(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        create = node.runtime.create_sandbox

        async def fail(spec: Any) -> Any:
            raise RuntimeFailure("no address left")

        node.runtime.create_sandbox = fail
        async with node.running():
            await node.create(pod())
            await node.until(lambda: node.events("FailedCreatePodSandBox"))
            assert node.events("FailedCreatePodSandBox") == ["Failed to create pod sandbox: no address left"]
            node.runtime.create_sandbox = create
            await node.until(node.is_phase("Running"), 20)

    node.clock.run(scenario())


def test_the_node_registers_ready_with_what_it_has(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: ("nodes", "", "node-1") in node.api.objects)
            await node.until(lambda: ("leases", "kube-node-lease", "node-1") in node.api.objects)
            found = node.api.objects["nodes", "", "node-1"]
            assert found["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"
            assert found["status"]["capacity"]["cpu"] == "4"
            assert found["status"]["allocatable"]["memory"] == "8092Mi"
            conditions = {one["type"]: (one["status"], one["reason"]) for one in found["status"]["conditions"]}
            assert conditions["Ready"] == ("True", "KubeletReady")
            assert conditions["MemoryPressure"] == ("False", "KubeletHasSufficientMemory")
            assert found["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.0"

    node.clock.run(scenario())


def test_a_new_image_is_in_the_nodes_status_at_once(node: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            images = node.runtime.images
            await node.clock.sleep(1)
            images.shown.append(images._image("fresh"))
            images.changed.set()

            def named() -> list[str]:
                found = node.api.objects["nodes", "", "node-1"]["status"].get("images") or []
                return [name for image in found for name in image["names"]]

            assert await node.until(lambda: named() == ["docker.io/library/fresh:latest"]) < 1

    node.clock.run(scenario())


def test_what_the_sandbox_cannot_have_is_said_with_the_fields_name(
    node: Any, pod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiphys.kubelet.userns.supported", lambda: False)

    async def scenario() -> None:
        async with node.running():
            await node.create(pod(hostUsers=False))
            await node.until(lambda: bool(node.events("FailedCreatePodSandBox")))
            text = "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
            assert text in node.events("FailedCreatePodSandBox")[0]

    node.clock.run(scenario())


def test_the_sandbox_is_asked_for_host_ports_and_bandwidth(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            ports = [{"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}, {"containerPort": 81}]
            sidecar = {"name": "side", "image": "busybox", "restartPolicy": "Always"}
            made = pod(
                containers=[{"ports": ports}],
                initContainers=[{**sidecar, "ports": [{"containerPort": 53, "hostPort": 53, "protocol": "UDP"}]}],
            )
            made["metadata"]["annotations"] = {"kubernetes.io/egress-bandwidth": "10M"}
            await node.create(made)
            await node.until(node.is_phase("Running"))
            spec = (await node.runtime.sandboxes())[0].spec
            assert spec.ports == (PortMapping("udp", 53, 53), PortMapping("tcp", 8080, 80, "127.0.0.1"))
            assert spec.bandwidth == Bandwidth(egress=10_000_000)

    node.clock.run(scenario())


@pytest.mark.parametrize(
    ("rate", "words"), [("999", "small (< 1kbit)"), ("2P", "large (> 1Pbit)"), ("fast", "must match")]
)
def test_a_bandwidth_that_cannot_be_is_told(node: Any, pod: Any, rate: str, words: str) -> None:
    async def scenario() -> None:
        async with node.running():
            made = pod()
            made["metadata"]["annotations"] = {"kubernetes.io/ingress-bandwidth": rate}
            await node.create(made)
            await node.until(lambda: bool(node.events("FailedCreatePodSandBox")))
            assert words in node.events("FailedCreatePodSandBox")[0]

    node.clock.run(scenario())


def test_an_ephemeral_container_joins_the_processes_of_its_target(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            found = dict(node.pod())
            debugger = {"name": "debugger", "image": "busybox", "targetContainerName": "main"}
            await node.api.update(PODS, {**found, "spec": {**found["spec"], "ephemeralContainers": [debugger]}})
            await node.until(lambda: node.runtime.log.count("start debugger") == 1)
            assert node.runtime.by_name("debugger").spec.pid_of == node.runtime.by_name("main").spec.id

    node.clock.run(scenario())


def test_volumes_that_the_kubelet_fills_are_read_only(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        volumes = [{"name": "facts", "downwardAPI": {"items": []}}, {"name": "room", "emptyDir": {}}]
        mounts = [{"name": "facts", "mountPath": "/facts"}, {"name": "room", "mountPath": "/room"}]
        async with node.running():
            await node.create(pod(containers=[{"volumeMounts": mounts}], volumes=volumes))
            await node.until(node.is_phase("Running"))
            found = {mount.target: mount.readonly for mount in node.runtime.by_name("main").spec.mounts}
            assert (found["/facts"], found["/room"]) == (True, False)

    node.clock.run(scenario())
