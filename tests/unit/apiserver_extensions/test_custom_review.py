"""Reviews of conversions: what is asked, what is taken as an answer."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.apiserver.extensions import review

OBJ = {
    "apiVersion": "example.com/v1",
    "kind": "Foo",
    "metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 2, "labels": {"x": "y"}},
}
DESIRED = "example.com/v2"


def converted(**metadata: Any) -> dict[str, Any]:
    return {**OBJ, "apiVersion": DESIRED, "metadata": {**OBJ["metadata"], **metadata}}  # type: ignore[dict-item]


def answer(version: str = "v1", **response: Any) -> dict[str, Any]:
    full = {"uid": "1", "result": {"status": "Success"}, "convertedObjects": [], **response}
    return {"apiVersion": f"apiextensions.k8s.io/{version}", "kind": "ConversionReview", "response": full}


def test_the_question() -> None:
    found = review.question("v1", "1", [OBJ], DESIRED)
    assert found["apiVersion"] == "apiextensions.k8s.io/v1"
    assert found["request"] == {"uid": "1", "desiredAPIVersion": DESIRED, "objects": [OBJ]}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"apiVersion": "v1", "kind": "Pod"}, "expected webhook response of apiextensions.k8s.io/v1, Kind=Con"),
        (answer() | {"response": None}, "no response provided"),
        (answer(uid="2"), 'expected response.uid="1", got "2"'),
        (answer(result=None), "response.result.status was '', not 'Success'"),
        (answer(result={"status": "Failure", "message": "no"}), "no"),
    ],
)
def test_answers_that_are_none(found: Any, message: str) -> None:
    with pytest.raises(review.Unusable) as refused:
        review.answered(found, "v1", "1")
    assert str(refused.value).startswith(message)


def test_answers_of_v1beta1_need_no_uid() -> None:
    assert review.answered(answer("v1beta1", uid="", convertedObjects=[1]), "v1beta1", "1") == [1]


def test_metadata_is_restored_but_for_labels_and_annotations() -> None:
    found = review.accepted(OBJ, converted(generation=9, labels={"z": "1"}, annotations={"a": "b"}), DESIRED)
    assert found["metadata"] == {**OBJ["metadata"], "labels": {"z": "1"}, "annotations": {"a": "b"}}  # type: ignore[dict-item]
    assert "labels" not in review.accepted(OBJ, converted(labels=None), DESIRED)["metadata"]


INSIDE = "invalid object", "invalid converted object at index 1"
METADATA = "invalid metadata", "invalid metadata in object at index 1"


@pytest.mark.parametrize(
    ("obj", "where", "problem"),
    [
        (
            OBJ,
            ("invalid object at index 0", "invalid converted object at index 1"),
            "invalid groupVersion (expected example.com/v2, received example.com/v1)",
        ),
        (converted(uid="x"), INSIDE, "must have the same UID: u != x"),
        (converted(labels={"a": 1}), METADATA, "metadata.labels[a] must be a string, but is int64 in converted object"),
        (
            converted(annotations=[]),
            METADATA,
            "invalid metadata.annotations of type []interface {} in converted object",
        ),
    ],
)
def test_objects_that_cannot_be_taken(obj: Any, where: tuple[str, str], problem: str) -> None:
    with pytest.raises(review.Unusable) as refused:
        review.accepted(OBJ, obj, DESIRED)
    assert refused.value.located(0, 1) == f"{where[0]}: {problem}"
    assert refused.value.located(1, 2) == f"{where[1]}: {problem}"


def test_labels_that_are_none_are_told() -> None:
    with pytest.raises(review.Unusable, match=r"metadata\.labels: Invalid value"):
        review.accepted(OBJ, converted(labels={"not a label": "x"}), DESIRED)
