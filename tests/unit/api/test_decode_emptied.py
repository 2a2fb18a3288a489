"""What was sent empty, put back for those who have to show it."""

from __future__ import annotations

from typing import Any

from tiphys.api import schema
from tiphys.api.decode.emptied import with_empty

_DEFINITIONS = schema.builtin()
_POD = _DEFINITIONS.type("io.k8s.api.core.v1.Pod")


def _restored(obj: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    return with_empty(obj, sent, _POD, _DEFINITIONS)


def test_lists_and_maps_that_were_sent_empty_come_back_at_any_depth() -> None:
    obj = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    sent = {"metadata": {"name": "p", "labels": {}}, "spec": {"containers": [{"name": "c", "ports": []}]}}
    assert _restored(obj, sent) == sent
    assert obj == {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}


def test_only_lists_and_maps_that_the_type_has_come_back() -> None:
    sent: dict[str, Any] = {"spec": {"hostname": "", "unknown": {}, "securityContext": {}, "tolerations": None}}
    assert _restored({"spec": {"nodeName": "n"}}, sent) == {"spec": {"nodeName": "n"}}


def test_what_has_a_value_keeps_it() -> None:
    assert _restored({"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {}}}) == {
        "metadata": {"labels": {"a": "b"}}
    }
