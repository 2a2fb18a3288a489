"""A critical pod finds room on a full node."""

from __future__ import annotations

from typing import Any


def test_a_critical_pod_has_others_end_for_it(node: Any, pod: Any) -> None:
    def sized(name: str, cpu: str, **spec: Any) -> Any:
        main = {"name": "main", "resources": {"requests": {"cpu": cpu}}}
        return pod(name, containers=[main], terminationGracePeriodSeconds=5, **spec)

    async def scenario() -> None:
        async with node.running():
            for name, cpu in (("small", "1"), ("large", "2")):
                await node.create(sized(name, cpu))
                await node.until(node.is_phase("Running", name))
            await node.create(sized("critical", "2", priority=2_000_000_000))
            await node.until(node.is_phase("Running", "critical"))
            assert node.status("small")["phase"] == "Failed"
            assert node.status("large")["phase"] == "Running"
            status = node.status("small")
            assert (status["reason"], status["message"]) == ("Preempting", "Preempted in order to admit critical pod")
            told = next(one for one in status["conditions"] if one["type"] == "DisruptionTarget")
            assert told["reason"] == "TerminationByKubelet"
            assert told["message"] == "Pod was preempted by Kubelet to accommodate a critical pod."
            await node.until(lambda: node.events("Preempting") == ["Preempted in order to admit critical pod"])

    node.clock.run(scenario())


def test_a_kubelet_that_starts_again_counts_what_runs_before_it_admits_anything(node: Any, pod: Any) -> None:
    def sized(name: str, cpu: str) -> Any:
        return pod(name, containers=[{"name": "main", "resources": {"requests": {"cpu": cpu}}}])

    async def scenario() -> None:
        async with node.running():
            await node.create(sized("zz-old", "3"))
            await node.until(node.is_phase("Running", "zz-old"))
        await node.create(sized("aa-new", "2"))
        async with node.running():
            await node.until(node.is_phase("Failed", "aa-new"))
            assert node.status("aa-new")["reason"] == "OutOfcpu"
            assert node.status("zz-old")["phase"] == "Running"

    node.clock.run(scenario())
