"""When a finished Job is due for deletion."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers.ttl_after_finished import time_left

NOW = 1_767_225_600.0


def job(ttl: int | None, *conditions: dict[str, Any], **meta: Any) -> dict[str, Any]:
    spec = {} if ttl is None else {"ttlSecondsAfterFinished": ttl}
    return {"metadata": {"name": "j", **meta}, "spec": spec, "status": {"conditions": list(conditions)}}


def ended(type: str = "Complete", value: str = "True", ago: float | None = 4) -> dict[str, Any]:
    return {"type": type, "status": value, **({} if ago is None else {"lastTransitionTime": rfc3339(NOW - ago)})}


@pytest.mark.parametrize(
    ("what", "left"),
    [
        (job(10, ended()), 6),
        (job(10, ended("Failed")), 6),
        (job(0, ended(ago=0)), 0),
        (job(3, ended()), -1),
        (job(None, ended()), None),
        (job(10), None),
        (job(10, ended("Suspended")), None),
        (job(10, ended(value="False"), ended("Failed", ago=2)), 8),
        (job(10, ended(), deletionTimestamp=rfc3339(NOW)), None),
        (job(10, ended(ago=None)), None),
        (job(10, ended(ago=-3)), 13),
    ],
)
def test_a_job_is_kept_for_its_time_from_its_end_on(what: dict[str, Any], left: float | None) -> None:
    assert time_left(what, NOW) == left
