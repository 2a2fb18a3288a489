from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers.job_indexes import format_indexes, parse_indexes
from tiphys.controllers.job_pods import FINALIZER, INDEX, INDEX_FAILURES
from tiphys.controllers.job_policies import Failures
from tiphys.controllers.job_state import Conclusion, Outcome, Plan, Step

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


class Run:
    """A step of which everything that it asks for works."""

    def __init__(self, wanted: dict[str, Any], *pods: dict[str, Any], **options: Any) -> None:
        step = Step(wanted, pods, NOW, **options)
        self.plan: Plan = step.plan()
        gone = (*self.plan.discard, *self.plan.delete)
        self.then: Conclusion = step.conclude(Outcome(len(self.plan.create), gone))

    @property
    def status(self) -> dict[str, Any]:
        assert self.then.status is not None
        return dict(self.then.status)

    @property
    def conditions(self) -> list[tuple[str, str]]:
        return [(each["type"], each["reason"]) for each in self.status.get("conditions", [])]

    @property
    def stripped(self) -> list[str]:
        return names(self.then.strip)


def names(pods: Any) -> list[str]:
    return [each["metadata"]["name"] for each in pods]


def test_starts_as_many_as_parallelism_and_completions_allow() -> None:
    assert len(Run(job(parallelism=3, completions=10)).plan.create) == 3
    assert len(Run(job(parallelism=3, completions=2)).plan.create) == 2
    assert len(Run(job({"succeeded": 8}, parallelism=3, completions=10), pod("a")).plan.create) == 1
    assert len(Run(job(parallelism=3, completions=None)).plan.create) == 3
    assert Run(job({"succeeded": 1}, parallelism=3, completions=None), pod("a")).plan.create == ()
    assert len(Run(job(parallelism=2000, completions=None)).plan.create) == 500


def test_a_finished_pod_is_written_down_before_its_finalizer_goes() -> None:
    run = Run(job(), pod("a", "Succeeded"))
    assert run.status["uncountedTerminatedPods"] == {"succeeded": ["a"]}
    assert "succeeded" not in run.status
    assert run.stripped == ["a"]
    assert run.conditions == [("SuccessCriteriaMet", "CompletionsReached")]


def test_then_it_is_counted_and_the_job_complete() -> None:
    ending = [{"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached", "message": "m"}]
    held = {"uncountedTerminatedPods": {"succeeded": ["a"]}, "conditions": ending}
    run = Run(job(held), pod("a", "Succeeded", tracked=False))
    assert run.status["succeeded"] == 1
    assert run.status["uncountedTerminatedPods"] == {}
    assert run.conditions[-1] == ("Complete", "CompletionsReached")
    assert run.status["completionTime"] == rfc3339(NOW)
    assert run.then.events == (("Normal", "Completed", "Job completed"),)


def test_a_pod_whose_finalizer_removal_the_cache_does_not_show_yet_is_not_counted_twice() -> None:
    held = {"succeeded": 1, "terminating": 0, "ready": 0, "uncountedTerminatedPods": {}, "active": 1}
    run = Run(job(held, completions=5), pod("a", "Succeeded"), stripped={"a"})
    assert run.then.status is None
    assert run.stripped == []


def test_the_status_lists_no_more_than_five_hundred_pods_at_once() -> None:
    done = [pod(f"p{number}", "Succeeded") for number in range(700)]
    run = Run(job(completions=700, parallelism=700), *done)
    assert len(run.status["uncountedTerminatedPods"]["succeeded"]) == 500
    assert len(run.stripped) == 500
    assert run.conditions == [("SuccessCriteriaMet", "CompletionsReached")]


def test_failures_delay_the_next_pod_ten_seconds_doubling() -> None:
    run = Run(job(), pod("a", "Failed"))
    assert run.plan.create == ()
    assert run.then.after == pytest.approx(9)
    assert Failures(3, NOW).wait(NOW) == 40
    assert Failures(20, NOW).wait(NOW) == 600


def test_what_runs_is_reported_as_active_while_a_back_off_holds_further_pods_back() -> None:
    run = Run(job({"active": 2}, parallelism=2, completions=5), pod("a", "Failed"), pod("b"))
    assert run.plan.create == ()
    assert run.status["active"] == 1


def test_more_failures_than_the_limit_end_the_job_and_its_running_pods() -> None:
    run = Run(job({"failed": 2}, backoffLimit=2, parallelism=2, completions=5), pod("a", "Failed"), pod("b"))
    assert run.conditions == [("FailureTarget", "BackoffLimitExceeded")]
    assert names(run.plan.delete) == ["b"]
    assert run.status["uncountedTerminatedPods"] == {"failed": ["a", "b"]}
    assert run.status["terminating"] == 1


def test_a_job_does_not_end_while_a_pod_of_it_cannot_be_deleted() -> None:
    step = Step(job({"failed": 9}, parallelism=2, completions=5), [pod("a", "Failed"), pod("b")], NOW)
    assert names(step.plan().delete) == ["b"]
    conclusion = step.conclude(Outcome())
    assert conclusion.status is not None
    assert "conditions" not in conclusion.status
    assert conclusion.status["uncountedTerminatedPods"] == {"failed": ["a"]}
    assert names(conclusion.strip) == ["a"]


def test_the_job_is_failed_only_when_its_last_pod_has_gone() -> None:
    ending = [{"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded", "message": "m"}]
    leaving = pod("b", tracked=False, deletionTimestamp=rfc3339(NOW))
    waiting = Run(job({"conditions": ending, "failed": 1}), leaving)
    assert waiting.conditions == [("FailureTarget", "DeadlineExceeded")]
    done = Run(job({"conditions": ending, "failed": 1}))
    assert done.conditions[-1] == ("Failed", "DeadlineExceeded")
    assert done.then.events == (("Warning", "DeadlineExceeded", "m"),)
    assert "completionTime" not in done.status


def test_surplus_pods_are_discarded_without_being_counted() -> None:
    run = Run(job(parallelism=1, completions=5), pod("a"), pod("b", "Pending"))
    assert names(run.plan.discard) == ["b"]
    assert run.status["active"] == 1
    assert run.status["terminating"] == 1
    assert run.status["uncountedTerminatedPods"] == {}


def test_suspending_stops_pods_and_resuming_starts_the_clock_anew() -> None:
    suspended = Run(job(suspend=True), pod("a"))
    assert names(suspended.plan.discard) == ["a"]
    assert suspended.conditions == [("Suspended", "JobSuspended")]
    assert suspended.then.events == (("Normal", "Suspended", "Job suspended"),)
    assert "startTime" not in suspended.status
    resumed = Run(job(suspended.status))
    assert resumed.status["startTime"] == rfc3339(NOW)
    assert resumed.conditions == [("Suspended", "JobResumed")]
    assert resumed.then.events == (("Normal", "Resumed", "Job resumed"),)


def test_a_job_that_is_being_deleted_lets_its_pods_go_and_makes_none() -> None:
    going = job(completions=3, parallelism=3)
    going["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    run = Run(going, pod("a"), pod("b", "Succeeded"))
    assert run.plan == Plan()
    assert run.stripped == ["a", "b"]
    assert run.status["uncountedTerminatedPods"] == {"succeeded": ["b"]}


@pytest.mark.parametrize(
    ("policy", "phase", "counted", "created"),
    [
        ("TerminatingOrFailed", "Running", ["a"], 0),
        ("Failed", "Running", [], 0),
        ("Failed", "Failed", ["a"], 0),
    ],
)
def test_what_is_terminating_counts_and_is_replaced_by_policy(
    policy: str, phase: str, counted: list[str], created: int
) -> None:
    leaving = pod("a", phase, deletionTimestamp=rfc3339(NOW))
    run = Run(job(podReplacementPolicy=policy), leaving)
    assert run.status["uncountedTerminatedPods"].get("failed", []) == counted
    assert len(run.plan.create) == created
    assert run.status["terminating"] == (phase == "Running")
    assert run.then.after == (pytest.approx(9) if phase == "Failed" else pytest.approx(10) if counted else None)


def indexed(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return job(status, completionMode="Indexed", **{"parallelism": 3, "completions": 5, **spec})


def test_indexes_are_filled_from_the_lowest_and_named_in_the_pod() -> None:
    run = Run(indexed({"completedIndexes": "0,2"}), pod("a", index=1))
    made = [each["metadata"]["annotations"][INDEX] for each in run.plan.create]
    assert made == ["3", "4"]
    first = run.plan.create[0]
    assert first["spec"]["hostname"] == "j-3"
    assert first["metadata"]["generateName"] == "j-3-"
    assert first["metadata"]["labels"][INDEX] == "3"
    assert first["metadata"]["finalizers"] == [FINALIZER]
    assert first["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"


def test_two_pods_of_one_index_are_one_too_many() -> None:
    run = Run(indexed(), pod("a", index=1), pod("b", "Pending", index=1), pod("c", index=7))
    assert set(names(run.plan.discard)) == {"b", "c"}


def test_an_index_that_succeeded_twice_counts_once() -> None:
    run = Run(indexed(), pod("a", "Succeeded", index=1), pod("b", "Succeeded", index=1), pod("c", "Succeeded", index=9))
    assert (run.status["succeeded"], run.status["completedIndexes"]) == (1, "1")
    assert run.stripped == ["a", "b", "c"]
    assert run.status["uncountedTerminatedPods"] == {}


def test_fewer_completions_forget_indexes_beyond_them() -> None:
    run = Run(indexed({"completedIndexes": "0-3", "succeeded": 4}, completions=2, parallelism=2))
    assert (run.status["succeeded"], run.status["completedIndexes"]) == (2, "0,1")
    assert run.conditions == [("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")]


def test_an_index_fails_for_good_at_its_own_limit() -> None:
    wanted = indexed(backoffLimitPerIndex=1, backoffLimit=2**31 - 1)
    retry = Run(wanted, pod("a", "Failed", index=0))
    assert "0" not in {each["metadata"]["annotations"][INDEX] for each in retry.plan.create}
    assert retry.stripped == []
    assert retry.then.after == pytest.approx(9)
    last = pod("b", "Failed", index=0, annotations={INDEX_FAILURES: "1"})
    run = Run(wanted, last)
    assert run.status["failedIndexes"] == "0"
    assert run.stripped == ["b"]


def test_an_index_with_pods_of_both_ends_is_what_was_written_first_or_has_succeeded() -> None:
    limits: dict[str, Any] = {"backoffLimitPerIndex": 0, "backoffLimit": 2**31 - 1}
    both = (pod("a", "Succeeded", index=0), pod("b", "Failed", index=0))
    run = Run(indexed(**limits), *both)
    assert (run.status["completedIndexes"], run.status["failedIndexes"]) == ("0", "")
    assert run.stripped == ["a", "b"]
    run = Run(indexed({"failedIndexes": "0"}, **limits), *both)
    assert ("completedIndexes" in run.status, run.status["failedIndexes"]) == (False, "0")
    run = Run(indexed({"completedIndexes": "0", "succeeded": 1}, **limits), pod("b", "Failed", index=0))
    assert (run.status["completedIndexes"], run.status["failedIndexes"]) == ("0", "")


def test_indexes_that_failed_end_the_job_when_none_is_left_or_too_many_are_lost() -> None:
    wanted = indexed({"failedIndexes": "0", "completedIndexes": "1-4"}, backoffLimitPerIndex=1)
    assert Run(wanted).conditions[0] == ("FailureTarget", "FailedIndexes")
    few = indexed({"failedIndexes": "0,1"}, backoffLimitPerIndex=1, maxFailedIndexes=1)
    assert Run(few).conditions[0] == ("FailureTarget", "MaxFailedIndexesExceeded")


RULES = [
    ({"operator": "In", "values": [42]}, 42, "FailJob"),
    ({"operator": "NotIn", "values": [42]}, 42, ""),
    ({"operator": "NotIn", "values": [42]}, 41, "FailJob"),
    ({"operator": "In", "values": [42], "containerName": "other"}, 42, ""),
    ({"operator": "NotIn", "values": [42]}, 0, ""),
]


@pytest.mark.parametrize(("requirement", "code", "action"), RULES)
def test_exit_codes_are_matched_by_the_first_rule_that_fits(requirement: Any, code: int, action: str) -> None:
    policy = {"rules": [{"action": "FailJob", "onExitCodes": requirement}]}
    run = Run(job(podFailurePolicy=policy), pod("a", "Failed", code=code))
    assert (run.status.get("conditions", [{}])[0].get("reason") == "PodFailurePolicy") is bool(action)


def test_policies_for_failures_and_success() -> None:
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    ended = Run(job(podFailurePolicy={"rules": rules}), pod("a", "Failed", code=42))
    assert ended.conditions == [("FailureTarget", "PodFailurePolicy")]
    message = ended.status["conditions"][0]["message"]
    assert message == "Container c for pod default/a failed with exit code 42 matching FailJob rule at index 0"
    ignoring = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    disrupted = pod("a", "Failed")
    disrupted["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    ignored = Run(job(podFailurePolicy={"rules": ignoring}, backoffLimit=0), disrupted)
    assert ignored.status["uncountedTerminatedPods"] == {}
    assert ignored.stripped == ["a"]
    early = Run(
        indexed(successPolicy={"rules": [{"succeededIndexes": "1-2", "succeededCount": 1}]}),
        pod("a", "Succeeded", index=2),
        pod("b", index=0),
    )
    assert early.conditions == [("SuccessCriteriaMet", "SuccessPolicy")]
    assert names(early.plan.delete) == ["b"]
    assert set(early.stripped) == {"a", "b"}
    assert early.status["uncountedTerminatedPods"] == {}


@pytest.mark.parametrize(
    ("rules", "succeeded", "met"),
    [
        ([{"succeededCount": 2}], "0", False),
        ([{"succeededCount": 2}], "0,3", True),
        ([{"succeededIndexes": "0-1"}], "0,2,3", False),
        ([{"succeededIndexes": "0-1"}], "0-2", True),
        ([{"succeededIndexes": "0-3", "succeededCount": 2}], "1,4", False),
        ([{"succeededIndexes": "0-3", "succeededCount": 2}], "1,3", True),
        ([{"succeededIndexes": "x"}, {"succeededCount": 1}], "3", True),
        ([{"succeededCount": 0}], "", False),
    ],
)
def test_success_policies(rules: list[Any], succeeded: str, met: bool) -> None:
    run = Run(indexed({"completedIndexes": succeeded}, successPolicy={"rules": rules}))
    assert (("SuccessCriteriaMet", "SuccessPolicy") in run.conditions) is met


@pytest.mark.parametrize("text", ["", "0", "0,1", "0-2", "1,3-5,7,8", "0-9"])
def test_index_lists_read_as_they_are_written(text: str) -> None:
    assert format_indexes(parse_indexes(text, 100)) == text


def test_indexes_beyond_the_completions_and_nonsense_are_left_out() -> None:
    assert parse_indexes("1,3-9", 5) == {1, 3, 4}
    assert parse_indexes("x,²,1-,-3,2-y,4", 9) == {1, 4}
