"""A kubelet that is killed and started again, and an API server that comes and goes."""

from __future__ import annotations

from typing import Any

from tiphys.client.resources import NODES, PODS
from tiphys.kubelet.probes.prober import Result


def test_an_exit_while_no_kubelet_ran_is_recorded(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(restartPolicy="Never"))
            await node.until(node.is_phase("Running"))
        await node.clock.sleep(60)
        node.runtime.exit("main", 42)
        async with node.running():
            await node.until(node.is_phase("Failed"))
            assert node.status(container="main")["state"]["terminated"]["exitCode"] == 42

    node.clock.run(scenario())


def test_containers_run_on_and_stay_ready(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        probe = {"tcpSocket": {"port": 80}, "periodSeconds": 10, "initialDelaySeconds": 30}
        async with node.running():
            await node.create(pod(containers=[{"readinessProbe": probe, "startupProbe": probe}]))
            await node.until(lambda: node.status(container="main")["ready"])
        before = node.status(container="main")
        node.probes["main"] = Result(False, "slow")
        async with node.running():
            await node.clock.sleep(5)
            assert node.status(container="main") == before
            assert node.runtime.log.count("start main") == 1
            await node.until(lambda: not node.status(container="main")["ready"], 60)

    node.clock.run(scenario())


def test_the_back_off_goes_on_after_a_restart(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            for count in range(3):
                await node.until(lambda: node.runtime.log.count("start main") == count + 1, 100)  # noqa: B023
                node.runtime.exit("main", 1)
            await node.clock.sleep(1)
        async with node.running():
            assert 18 < await node.until(lambda: node.runtime.log.count("start main") == 4) < 20
            await node.until(lambda: node.status(container="main")["restartCount"] == 3)

    node.clock.run(scenario())


def test_a_pod_deleted_while_no_kubelet_ran_is_stopped_and_cleaned_up(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
        await node.api.delete(PODS, "web", "default", grace_seconds=0)
        async with node.running() as kubelet:
            await node.until(lambda: not kubelet.workers)
            assert "stop main 30" in node.runtime.log
            assert not node.runtime.boxes
            assert not node.runtime.runs
            assert list(node.config.pods_dir.iterdir()) == []

    node.clock.run(scenario())


def test_a_deletion_that_was_under_way_goes_on(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.ignores_signals.add("main")
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            await node.api.delete(PODS, "web", "default")
            await node.clock.sleep(2)
        async with node.running():
            assert await node.until(node.gone) < 31

    node.clock.run(scenario())


def test_a_container_that_was_created_but_not_started_is_started(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
        run = node.runtime.by_name("main")
        from dataclasses import replace

        from tiphys.runtime.types import State

        node.runtime.runs[run.spec.id] = replace(run, state=State.CREATED, started_at=0)
        async with node.running():
            await node.until(lambda: node.runtime.log.count("start main") == 2)
            assert node.status(container="main")["restartCount"] == 0

    node.clock.run(scenario())


def test_a_terminal_state_survives_an_api_server_that_is_away(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(restartPolicy="Never"))
            await node.until(node.is_phase("Running"))
            node.api.broken = True
            node.runtime.exit("main", 0)
            await node.clock.sleep(600)
            assert node.runtime.runs, "its containers are kept until the API has its end"
            node.api.broken = False
            await node.until(node.is_phase("Succeeded"), 60)
            await node.until(lambda: not node.runtime.runs)

    node.clock.run(scenario())


def test_an_idle_node_writes_only_its_lease(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            await node.clock.sleep(60)
            revision = node.api.revision
            await node.clock.sleep(100)
            lease = node.api.objects["leases", "kube-node-lease", "node-1"]
            assert lease["spec"]["holderIdentity"] == "node-1"
            assert node.api.revision - revision <= 11

    node.clock.run(scenario())


def test_a_node_that_was_given_up_while_it_was_cut_off_is_ready_again_at_once(node: Any) -> None:
    def ready() -> str:
        conditions = node.api.objects["nodes", "", "node-1"]["status"]["conditions"]
        return str(next(each["status"] for each in conditions if each["type"] == "Ready"))

    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: ("nodes", "", "node-1") in node.api.objects)
            await node.until(lambda: ready() == "True")
            await node.clock.sleep(30)
            node.api.broken = True
            await node.clock.sleep(60)
            given_up = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
            node.api.broken = False
            await node.api.patch(NODES, "node-1", given_up)
            await node.until(lambda: ready() == "True", 15)

    node.clock.run(scenario())


def test_a_status_that_somebody_else_wrote_is_put_right(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            await node.clock.sleep(1)
            await node.api.patch(PODS, "web", {"status": {"podIP": "1.2.3.4"}}, "default")
            await node.until(lambda: node.status()["podIP"] == "10.1.0.2")

    node.clock.run(scenario())


def test_the_pre_stop_hook_of_a_pod_that_was_removed_meanwhile_still_runs(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        hook = {"preStop": {"exec": {"command": ["flush"]}}}
        async with node.running():
            await node.create(pod(containers=[{"lifecycle": hook}]))
            await node.until(node.is_phase("Running"))
        await node.api.delete(PODS, "web", "default", grace_seconds=0)
        async with node.running():
            await node.until(lambda: not node.runtime.runs)
            assert "exec flush" in node.runtime.log

    node.clock.run(scenario())
