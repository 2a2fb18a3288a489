"""What the scheduler makes of claims and volumes that nobody can read: nothing, but it goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.scheduler.storage import Storage

UNREADABLE = {"matchExpressions": [{"key": "a", "operator": "Perhaps"}]}


def volume(size: str = "1Gi") -> dict[str, Any]:
    return {"metadata": {"name": "disk"}, "spec": {"capacity": {"storage": size}}, "status": {"phase": "Available"}}


def claim(size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    meta = {"namespace": "default", "name": "data", "uid": "1"}
    return {"metadata": meta, "spec": {"resources": {"requests": {"storage": size}}, **spec}}


@pytest.mark.parametrize(
    ("held", "wanted", "found"),
    [
        (volume(), claim(), 1),
        (volume("a lot"), claim(), 0),
        (volume(), claim("a bit"), 1),
        (volume(), claim(selector=UNREADABLE), 0),
        (volume(), claim(selector={}), 1),
    ],
)
def test_what_cannot_be_read_fits_nothing_or_asks_for_nothing(held: Any, wanted: Any, found: int) -> None:
    storage = Storage()
    storage.volume_changed(None, held)
    assert len(storage.candidates(wanted)) == found
