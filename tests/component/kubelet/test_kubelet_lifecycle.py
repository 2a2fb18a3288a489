"""Pods from creation to their end, on the virtual clock."""

from __future__ import annotations

from typing import Any

from tiphys.kubelet.probes.prober import Result
from tiphys.runtime.types import ExecResult


def test_a_pod_runs_at_once_and_says_so(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            took = await node.until(node.is_phase("Running"))
            assert took <= 0.02
            status = node.status(container="main")
            assert status["ready"]
            assert status["started"]
            assert status["restartCount"] == 0
            assert status["containerID"].startswith("tiphys://")
            conditions = {one["type"]: one["status"] for one in node.status()["conditions"]}
            assert conditions == dict.fromkeys(
                ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
            )
            assert node.status()["podIP"] == "10.1.0.2"
            assert node.status()["hostIP"] == "10.0.0.1"
            await node.until(lambda: len(node.events()) == 3)
            assert node.events() == [
                'Container image "busybox" already present on machine and can be accessed by the pod',
                "Container created",
                "Container started",
            ]

    node.clock.run(scenario())


def test_a_job_like_pod_completes(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(restartPolicy="Never"))
            await node.until(node.is_phase("Running"))
            node.runtime.exit("main", 0)
            await node.until(node.is_phase("Succeeded"))
            ended = node.status(container="main")["state"]["terminated"]
            assert ended["reason"] == "Completed"
            assert ended["exitCode"] == 0
            await node.until(lambda: not node.runtime.boxes)
            ready = next(one for one in node.status()["conditions"] if one["type"] == "Ready")
            assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")

    node.clock.run(scenario())


def test_a_failed_container_that_may_not_restart_fails_the_pod(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(restartPolicy="Never"))
            await node.until(node.is_phase("Running"))
            node.runtime.exit("main", 3)
            await node.until(node.is_phase("Failed"))
            assert node.status(container="main")["state"]["terminated"]["reason"] == "Error"

    node.clock.run(scenario())


def test_a_crash_loop_backs_off_doubling(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            waits = []
            for restart in range(8):
                count = restart
                await node.until(lambda: node.status(container="main")["restartCount"] == count, 400)  # noqa: B023
                await node.until(lambda: "running" in node.status(container="main")["state"])
                node.runtime.exit("main", 1)
                target = restart + 1
                waits.append(
                    round(await node.until(lambda: node.runtime.log.count("start main") == target + 1, 400))  # noqa: B023
                )
            assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
            assert "Back-off restarting failed container main in pod web_default(web-uid)" in node.events("BackOff")

    node.clock.run(scenario())


def test_a_container_in_back_off_says_why_it_waits(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            node.runtime.exit("main", 1)
            await node.until(lambda: node.status(container="main")["restartCount"] == 1)
            node.runtime.exit("main", 7)
            await node.until(lambda: "waiting" in node.status(container="main")["state"])
            status = node.status(container="main")
            assert status["state"]["waiting"] == {
                "reason": "CrashLoopBackOff",
                "message": "back-off 10s restarting failed container=main pod=web_default(web-uid)",
            }
            assert status["lastState"]["terminated"]["exitCode"] == 7
            assert node.status()["phase"] == "Running"

    node.clock.run(scenario())


def test_init_containers_run_in_order_before_the_others(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(initContainers=[{"name": "one"}, {"name": "two"}]))
            await node.until(lambda: "start one" in node.runtime.log)
            await node.clock.sleep(5)
            assert "start two" not in node.runtime.log
            waiting = node.status(container="main")["state"]["waiting"]
            assert waiting["reason"] == "PodInitializing"
            assert node.status()["phase"] == "Pending"
            node.runtime.exit("one", 0)
            await node.until(lambda: "start two" in node.runtime.log)
            node.runtime.exit("two", 0)
            await node.until(node.is_phase("Running"))
            assert [line for line in node.runtime.log if line.startswith("start")] == [
                "start one",
                "start two",
                "start main",
            ]

    node.clock.run(scenario())


def test_a_sidecar_outlives_the_main_container(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            side = {"name": "side", "restartPolicy": "Always"}
            await node.create(pod(restartPolicy="Never", initContainers=[side]))
            await node.until(node.is_phase("Running"))
            assert [line for line in node.runtime.log if "start" in line] == ["start side", "start main"]
            node.runtime.exit("main", 0)
            await node.until(node.is_phase("Succeeded"))
            assert "stop side 30" in node.runtime.log

    node.clock.run(scenario())


def test_a_failed_liveness_probe_restarts_the_container(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        probe = {"exec": {"command": ["cat", "/tmp/healthy"]}, "initialDelaySeconds": 5, "periodSeconds": 5}
        async with node.running():
            await node.create(pod(containers=[{"livenessProbe": probe}]))
            await node.until(node.is_phase("Running"))
            await node.clock.sleep(30)
            node.probes["main"] = Result(False, "cat: can't open '/tmp/healthy': No such file or directory\n")
            await node.until(lambda: node.status(container="main")["restartCount"] == 1)
            assert node.events("Unhealthy")[0] == (
                "Liveness probe failed: cat: can't open '/tmp/healthy': No such file or directory\n"
            )
            assert node.events("Killing") == ["Container main failed liveness probe, will be restarted"]

    node.clock.run(scenario())


def test_a_readiness_probe_decides_readiness(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.probes["main"] = Result(False, "no")
        async with node.running():
            await node.create(pod(containers=[{"readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 2}}]))
            await node.until(node.is_phase("Running"))
            await node.clock.sleep(10)
            assert not node.status(container="main")["ready"]
            node.probes["main"] = Result(True)
            await node.until(lambda: node.status(container="main")["ready"], 3)

    node.clock.run(scenario())


def test_a_startup_probe_holds_the_others_back(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.probes["main"] = Result(False, "no")
        probe = {"exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": 5}
        async with node.running():
            await node.create(pod(containers=[{"startupProbe": probe, "livenessProbe": probe}]))
            await node.until(node.is_phase("Running"))
            assert node.status(container="main")["started"] is False
            await node.until(lambda: node.events("Killing"))
            assert node.events("Killing") == ["Container main failed startup probe, will be restarted"]
            node.probes["main"] = Result(True)
            await node.until(lambda: node.status(container="main")["started"])

    node.clock.run(scenario())


def test_deletion_runs_the_hook_within_its_grace_and_removes_the_object(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        hook = {"preStop": {"sleep": {"seconds": 4}}}
        node.runtime.ignores_signals.add("main")
        async with node.running():
            await node.create(pod(containers=[{"lifecycle": hook}]))
            await node.until(node.is_phase("Running"))
            await node.api.delete(_pods(), "web", "default", grace_seconds=10)
            took = await node.until(node.gone)
            assert 9.9 < took < 10.2
            assert "stop main 6" in node.runtime.log
            assert node.events("Killing") == ["Stopping container main"]
            await node.until(lambda: not node.kubelet.workers)
            assert not node.runtime.boxes
            assert not node.runtime.runs
            assert list(node.config.pods_dir.iterdir()) == []
            assert list(node.config.log_dir.iterdir()) == []

    node.clock.run(scenario())


def test_forced_deletion_shortens_a_grace_that_is_under_way(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.ignores_signals.add("main")
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            await node.api.delete(_pods(), "web", "default")
            await node.clock.sleep(3)
            await node.api.delete(_pods(), "web", "default", grace_seconds=1)
            assert await node.until(node.gone) < 3

    node.clock.run(scenario())


def test_a_failed_post_start_hook_kills_the_container(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        hook = {"postStart": {"exec": {"command": ["false"]}}}
        node.runtime.exec_results["false"] = ExecResult(1, b"", b"no")
        async with node.running():
            await node.create(pod(containers=[{"lifecycle": hook}]))
            await node.until(lambda: node.events("FailedPostStartHook"))
            assert node.events("FailedPostStartHook") == ["PostStartHook failed"]
            await node.until(lambda: node.status(container="main")["restartCount"] >= 1)

    node.clock.run(scenario())


def test_a_deadline_fails_the_pod(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(activeDeadlineSeconds=60))
            await node.until(node.is_phase("Running"))
            took = await node.until(node.is_phase("Failed"))
            assert 58 < took < 62
            assert node.status()["reason"] == "DeadlineExceeded"

    node.clock.run(scenario())


def test_a_dead_sandbox_is_replaced(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            node.runtime.kill_sandbox()
            await node.until(lambda: node.status(container="main")["restartCount"] == 1)
            await node.until(lambda: len(node.runtime.boxes) == 1)
            assert "Pod sandbox changed, it will be killed and re-created." in node.events("SandboxChanged")

    node.clock.run(scenario())


def _pods() -> Any:
    from tiphys.client.resources import PODS

    return PODS
