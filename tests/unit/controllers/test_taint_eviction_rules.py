"""When taints end pods, by the tables of upstream's behaviour."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.taint_eviction import Sentence, Verdict, judge, matching, patience

A, B = {"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"}


def bears(key: str, seconds: int | None = None) -> dict[str, Any]:
    limit = {} if seconds is None else {"tolerationSeconds": seconds}
    return {"key": key, "operator": "Exists", **limit}


def pod(*tolerations: dict[str, Any], uid: str = "u") -> dict[str, Any]:
    return {"metadata": {"name": "p", "uid": uid}, "spec": {"tolerations": list(tolerations)}}


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([bears("a"), bears("b", 30)], 30.0),
        ([bears("a", 20), bears("b", 30)], 20.0),
        ([bears("a"), bears("b")], None),
        ([bears("a", -5), bears("b", 30)], 0.0),
        ([bears("a"), bears("a", 1), bears("b")], None),
    ],
)
def test_the_first_toleration_of_each_taint_counts(tolerations: list[dict[str, Any]], expected: float | None) -> None:
    used = matching(tolerations, [A, B])
    assert used is not None
    assert patience(used) == expected


def test_a_taint_that_is_not_tolerated_ends_a_pod_now() -> None:
    assert matching([bears("a")], [A, B]) is None
    assert judge(pod(), [A], None, 7.0) == Verdict(Sentence("u", 7.0))
    assert judge(pod(bears("a")), [A, B], Sentence("u", 99.0), 7.0) == Verdict(Sentence("u", 7.0), cancelled=True)


def test_the_end_is_set_once() -> None:
    assert judge(pod(bears("a", 30)), [A], None, 7.0) == Verdict(Sentence("u", 37.0))
    assert judge(pod(bears("a", 30)), [A], Sentence("u", 20.0), 7.0) == Verdict(Sentence("u", 20.0))
    assert judge(pod(bears("a", 1)), [A], Sentence("u", 20.0), 7.0) == Verdict(Sentence("u", 20.0))


def test_tolerating_for_ever_or_no_taint_cancels() -> None:
    assert judge(pod(bears("a")), [A], Sentence("u", 20.0), 7.0) == Verdict(None, cancelled=True)
    assert judge(pod(), [], Sentence("u", 20.0), 7.0) == Verdict(None, cancelled=True)
    assert judge(pod(), [], None, 7.0) == Verdict(None)


def test_the_sentence_of_a_namesake_does_not_count() -> None:
    verdict = judge(pod(bears("a", 30)), [A], Sentence("other", 8.0), 7.0)
    assert verdict == Verdict(Sentence("u", 37.0), cancelled=True)
