from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers.job_pods import FINALIZER, INDEX, INDEX_FAILURES, format_indexes, parse_indexes
from tiphys.controllers.job_policies import Failures
from tiphys.controllers.job_state import Decision, decide

NOW = 1_767_225_600.0


def job(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}
    full = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": {"spec": pod}, **spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j", "namespace": "default", "uid": "job"},
        "spec": full,
        "status": {"startTime": rfc3339(NOW - 5), **(status or {})},
    }


def pod(
    name: str, phase: str = "Running", *, index: int | None = None, tracked: bool = True, **meta: Any
) -> dict[str, Any]:
    notes = {} if index is None else {INDEX: str(index)}
    state = {"terminated": {"exitCode": meta.pop("code", 1), "finishedAt": rfc3339(NOW - 1)}}
    ended = phase in ("Succeeded", "Failed")
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "creationTimestamp": rfc3339(NOW - 3),
            "annotations": {**notes, **meta.pop("annotations", {})},
            "finalizers": [FINALIZER] if tracked else [],
            **meta,
        },
        "spec": {},
        "status": {"phase": phase, "containerStatuses": [{"name": "c", "state": state if ended else {}}]},
    }


def run(wanted: dict[str, Any], *pods: dict[str, Any], **options: Any) -> Decision:
    return decide(wanted, pods, NOW, options.pop("failures", Failures()), **options)


def conditions(decision: Decision) -> list[tuple[str, str]]:
    assert decision.status is not None
    return [(each["type"], each["reason"]) for each in decision.status.get("conditions", [])]


def test_starts_as_many_as_parallelism_and_completions_allow() -> None:
    assert len(run(job(parallelism=3, completions=10)).create) == 3
    assert len(run(job(parallelism=3, completions=2)).create) == 2
    assert len(run(job({"succeeded": 8}, parallelism=3, completions=10), pod("a")).create) == 1
    assert len(run(job(parallelism=3, completions=None)).create) == 3
    assert run(job({"succeeded": 1}, parallelism=3, completions=None), pod("a")).create == ()


def test_waits_for_the_cache_before_it_creates_or_ends() -> None:
    decision = run(job(), settled=False)
    assert decision.create == ()


def test_a_finished_pod_is_written_down_before_its_finalizer_goes() -> None:
    decision = run(job(), pod("a", "Succeeded"))
    assert decision.status is not None
    assert decision.status["uncountedTerminatedPods"] == {"succeeded": ["a"]}
    assert "succeeded" not in decision.status
    assert [each["metadata"]["name"] for each in decision.strip] == ["a"]
    assert conditions(decision) == [("SuccessCriteriaMet", "CompletionsReached")]


def test_then_it_is_counted_and_the_job_complete() -> None:
    ending = [{"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached", "message": "m"}]
    held = {"uncountedTerminatedPods": {"succeeded": ["a"]}, "conditions": ending}
    decision = run(job(held), pod("a", "Succeeded", tracked=False))
    assert decision.status is not None
    assert decision.status["succeeded"] == 1
    assert decision.status["uncountedTerminatedPods"] == {}
    assert conditions(decision)[-1] == ("Complete", "CompletionsReached")
    assert decision.events == (("Normal", "Completed", "Job completed"),)


def test_a_pod_whose_finalizer_removal_the_cache_does_not_show_yet_is_not_counted_twice() -> None:
    held = {"succeeded": 1, "terminating": 0, "ready": 0, "uncountedTerminatedPods": {}}
    decision = run(job(held, completions=5), pod("a", "Succeeded"), stripped={"a"}, settled=False)
    assert decision.status is None
    assert decision.strip == ()


def test_failures_delay_the_next_pod_ten_seconds_doubling() -> None:
    decision = run(job(), pod("a", "Failed"))
    assert decision.create == ()
    assert decision.after == pytest.approx(9)
    assert Failures(3, NOW).wait(NOW) == 40
    assert Failures(20, NOW).wait(NOW) == 600


def test_more_failures_than_the_limit_end_the_job_and_its_running_pods() -> None:
    decision = run(job({"failed": 2}, backoffLimit=2, parallelism=2, completions=5), pod("a", "Failed"), pod("b"))
    assert conditions(decision) == [("FailureTarget", "BackoffLimitExceeded")]
    assert [each["metadata"]["name"] for each in decision.delete] == ["b"]
    assert decision.status is not None
    assert decision.status["uncountedTerminatedPods"] == {"failed": ["a", "b"]}


def test_the_job_is_failed_only_when_its_last_pod_has_gone() -> None:
    ending = [{"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded", "message": "m"}]
    leaving = pod("b", tracked=False, deletionTimestamp=rfc3339(NOW))
    waiting = run(job({"conditions": ending, "failed": 1}), leaving)
    assert conditions(waiting) == [("FailureTarget", "DeadlineExceeded")]
    done = run(job({"conditions": ending, "failed": 1}))
    assert conditions(done)[-1] == ("Failed", "DeadlineExceeded")
    assert done.events == (("Warning", "DeadlineExceeded", "m"),)


def test_surplus_pods_are_discarded_without_being_counted() -> None:
    decision = run(job(parallelism=1, completions=5), pod("a"), pod("b", "Pending"))
    assert [each["metadata"]["name"] for each in decision.discard] == ["b"]
    assert decision.status is not None
    assert decision.status["active"] == 1
    assert decision.status["uncountedTerminatedPods"] == {}


def test_suspending_stops_pods_and_resuming_starts_the_clock_anew() -> None:
    suspended = run(job(suspend=True), pod("a"))
    assert [each["metadata"]["name"] for each in suspended.discard] == ["a"]
    assert conditions(suspended) == [("Suspended", "JobSuspended")]
    assert suspended.status is not None
    assert "startTime" not in suspended.status
    resumed = run(job(dict(suspended.status)))
    assert resumed.status is not None
    assert resumed.status["startTime"] == rfc3339(NOW)
    assert conditions(resumed) == [("Suspended", "JobResumed")]


def indexed(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return job(status, completionMode="Indexed", **{"parallelism": 3, "completions": 5, **spec})


def test_indexes_are_filled_from_the_lowest_and_named_in_the_pod() -> None:
    decision = run(indexed({"completedIndexes": "0,2"}), pod("a", index=1))
    made = [each["metadata"]["annotations"][INDEX] for each in decision.create]
    assert made == ["3", "4"]
    first = decision.create[0]
    assert first["spec"]["hostname"] == "j-3"
    assert first["metadata"]["generateName"] == "j-3-"
    assert first["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"


def test_two_pods_of_one_index_are_one_too_many() -> None:
    decision = run(indexed(), pod("a", index=1), pod("b", "Pending", index=1), pod("c", index=7))
    assert {each["metadata"]["name"] for each in decision.discard} == {"b", "c"}


def test_an_index_fails_for_good_at_its_own_limit() -> None:
    wanted = indexed(backoffLimitPerIndex=1, backoffLimit=2**31 - 1)
    retry = run(wanted, pod("a", "Failed", index=0))
    assert "0" not in {each["metadata"]["annotations"][INDEX] for each in retry.create}
    assert retry.strip == ()
    last = pod("b", "Failed", index=0, annotations={INDEX_FAILURES: "1"})
    decision = run(wanted, last)
    assert decision.status is not None
    assert decision.status["failedIndexes"] == "0"
    assert [each["metadata"]["name"] for each in decision.strip] == ["b"]


def test_policies_for_failures_and_success() -> None:
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    ended = run(job(podFailurePolicy={"rules": rules}), pod("a", "Failed", code=42))
    assert conditions(ended) == [("FailureTarget", "PodFailurePolicy")]
    assert ended.status is not None
    message = ended.status["conditions"][0]["message"]
    assert message == "Container c for pod default/a failed with exit code 42 matching FailJob rule at index 0"
    ignoring = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    disrupted = pod("a", "Failed")
    disrupted["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    ignored = run(job(podFailurePolicy={"rules": ignoring}, backoffLimit=0), disrupted)
    assert ignored.status is not None
    assert ignored.status["uncountedTerminatedPods"] == {}
    early = run(
        indexed(successPolicy={"rules": [{"succeededIndexes": "1-2", "succeededCount": 1}]}),
        pod("a", "Succeeded", index=2),
    )
    assert conditions(early) == [("SuccessCriteriaMet", "SuccessPolicy")]


@pytest.mark.parametrize("text", ["", "0", "0,1", "0-2", "1,3-5,7,8", "0-9"])
def test_index_lists_read_as_they_are_written(text: str) -> None:
    assert format_indexes(parse_indexes(text, 100)) == text


def test_indexes_beyond_the_completions_are_left_out() -> None:
    assert parse_indexes("1,3-9", 5) == {1, 3, 4}
