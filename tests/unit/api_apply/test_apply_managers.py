"""Who manages what after creates, updates and applies of several managers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiphys.api.apply.managed import ANCIENT, MAX_UPDATERS
from tiphys.base.errors import ApiError, BadRequest, Conflict

META = {"name": "x", "namespace": "default"}


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": dict(META), "data": data}


def deployment_with(replicas: int | None = None, *containers: dict[str, Any], **rest: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {} if replicas is None else {"replicas": replicas}
    if containers:
        spec["template"] = {"spec": {"containers": list(containers)}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": dict(META), "spec": spec, **rest}


@pytest.fixture
def maps(tracked: Callable[[str, str], Any]) -> Any:
    return tracked("v1", "ConfigMap")


def test_the_creator_manages_everything_but_what_the_server_owns(maps: Any) -> None:
    obj = config_map(a="1")
    obj["metadata"] |= {"labels": {"x": "y"}, "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
    maps.create("me", obj)
    assert maps.entries() == [
        {
            "manager": "me",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-01-01T00:00:01Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {".": {}, "f:a": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}},
        }
    ]


def test_whoever_changes_a_value_takes_it_over(maps: Any) -> None:
    maps.create("one", config_map(a="1", b="1"))
    maps.update("two", config_map(a="1", b="2"))
    assert maps.owned("one", "Update") == {"f:data": {".": {}, "f:a": {}}}
    assert maps.owned("two", "Update") == {"f:data": {"f:b": {}}}


def test_a_change_of_nothing_leaves_managers_and_times_alone(maps: Any) -> None:
    maps.create("one", config_map(a="1"))
    before = maps.managed
    maps.update("two", config_map(a="1"))
    assert maps.managed == before


def test_removed_fields_are_nobodys(maps: Any) -> None:
    maps.create("one", config_map(a="1", b="1"))
    maps.update("two", config_map(a="1"))
    assert maps.owned("one", "Update") == {"f:data": {".": {}, "f:a": {}}}
    assert maps.owned("two", "Update") is None


def test_the_same_manager_has_one_entry_for_each_subresource(deployment: Any) -> None:
    deployment.create("one", deployment_with(1, status={}))
    deployment.update("one", deployment_with(1, status={"replicas": 1}), "status")
    assert deployment.owned("one", "Update") == {"f:spec": {"f:replicas": {}}}
    assert deployment.owned("one", "Update", "status") == {"f:status": {"f:replicas": {}}}


def test_fields_that_an_endpoint_resets_are_not_managed_through_it(deployment: Any) -> None:
    deployment.create("one", deployment_with(1, status={"replicas": 9}))
    assert deployment.owned("one", "Update") == {"f:spec": {"f:replicas": {}}}
    deployment.update("two", deployment_with(3, status={"replicas": 9}), "status")
    assert deployment.owned("two", "Update", "status") is None


def test_objects_that_nobody_tracks_stay_untracked_by_updates(maps: Any) -> None:
    maps.obj = config_map(a="1")
    maps.update("two", config_map(a="2"))
    assert maps.entries() == []


def test_only_ten_updaters_are_remembered_one_by_one(maps: Any) -> None:
    maps.create("m0", config_map(k0="0"))
    for number in range(1, MAX_UPDATERS + 3):
        maps.update(f"m{number}", config_map(**{f"k{one}": "0" for one in range(number + 1)}))
    names = [entry["manager"] for entry in maps.entries()]
    assert len(names) == MAX_UPDATERS
    assert names[0] == ANCIENT
    assert maps.owned(ANCIENT, "Update") == {"f:data": {".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}, "f:k3": {}}}


@pytest.mark.parametrize("sent", [[], [{}]])
def test_managers_can_be_forgotten(maps: Any, sent: list[Any]) -> None:
    maps.create("one", config_map(a="1"))
    maps.update("two", config_map(a="2"), supplied=sent)
    assert maps.entries() == []


def test_clients_may_write_managers_but_not_through_a_subresource(deployment: Any) -> None:
    deployment.create("one", deployment_with(1, status={}))
    sent = deployment.entries()
    sent[0]["manager"] = "renamed"
    deployment.update("two", deployment_with(1, status={}), supplied=sent)
    assert [entry["manager"] for entry in deployment.entries()] == ["renamed"]
    sent[0]["manager"] = "again"
    deployment.update("two", deployment_with(1, status={}), "status", supplied=sent)
    assert [entry["manager"] for entry in deployment.entries()] == ["renamed"]


@pytest.mark.parametrize(
    "broken", [{"operation": "Eat"}, {"apiVersion": ""}, {"fieldsType": "X"}, {"fieldsV1": {"a": {}}}]
)
def test_managers_that_make_no_sense_are_ignored(maps: Any, broken: dict[str, Any]) -> None:
    maps.create("one", config_map(a="1"))
    maps.update("two", config_map(a="1"), supplied=[{**maps.entries()[0], **broken}])
    assert [entry["manager"] for entry in maps.entries()] == ["one"]


def test_an_applier_manages_what_it_applied(maps: Any) -> None:
    maps.apply("me", config_map(a="1"))
    assert maps.owned("me") == {"f:data": {"f:a": {}}}
    assert maps.obj["data"] == {"a": "1"}


def test_applying_the_same_again_changes_nothing(maps: Any) -> None:
    maps.apply("me", config_map(a="1"))
    before = maps.managed
    assert maps.apply("me", config_map(a="1")).obj is None
    assert maps.managed == before


def test_dropped_fields_go_unless_somebody_else_manages_them(maps: Any) -> None:
    maps.apply("one", config_map(a="1", b="1", c="1"))
    maps.apply("two", config_map(b="1"))
    maps.update("three", {**maps.obj, "data": {"a": "1", "b": "1", "c": "1", "d": "1"}})
    maps.apply("one", config_map(c="1"))
    assert maps.obj["data"] == {"b": "1", "c": "1", "d": "1"}
    assert maps.owned("one") == {"f:data": {"f:c": {}}}


def test_dropped_items_go_with_all_that_the_applier_had_in_them(deployment: Any) -> None:
    one, two = {"name": "a", "image": "x"}, {"name": "b", "image": "y"}
    deployment.apply("me", deployment_with(None, one, two))
    deployment.apply("me", deployment_with(None, one))
    assert deployment.obj["spec"]["template"]["spec"]["containers"] == [one]


def test_an_item_that_others_have_fields_in_stays_with_them(deployment: Any) -> None:
    deployment.apply("one", deployment_with(None, {"name": "a", "image": "x", "tty": True}))
    deployment.apply("two", deployment_with(None, {"name": "a", "tty": True}))
    deployment.apply("one", deployment_with(1))
    assert deployment.obj["spec"]["template"]["spec"]["containers"] == [{"name": "a", "tty": True}]


def test_a_change_of_what_others_manage_is_a_conflict(maps: Any) -> None:
    maps.apply("one", config_map(a="1", b="1"))
    with pytest.raises(Conflict) as caught:
        maps.apply("two", config_map(a="2", b="1"))
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    assert caught.value.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.a"}]
    }


def test_several_conflicts_are_listed_by_manager(maps: Any) -> None:
    maps.create("z", config_map(a="1", b="1"))
    maps.apply("one", config_map(c="1"))
    with pytest.raises(Conflict) as caught:
        maps.apply("two", config_map(a="2", b="2", c="2"))
    assert caught.value.message == (
        'Apply failed with 3 conflicts: conflicts with "one":\n- .data.c\n'
        'conflicts with "z" using v1:\n- .data.a\n- .data.b'
    )


def test_force_takes_conflicting_fields_over(maps: Any) -> None:
    maps.apply("one", config_map(a="1", b="1"))
    maps.apply("two", config_map(a="2"), force=True)
    assert maps.owned("one") == {"f:data": {"f:b": {}}}
    assert maps.owned("two") == {"f:data": {"f:a": {}}}
    assert maps.obj["data"] == {"a": "2", "b": "1"}


def test_the_same_value_is_shared_without_a_conflict(maps: Any) -> None:
    maps.apply("one", config_map(a="1"))
    maps.apply("two", config_map(a="1"))
    assert maps.owned("one") == maps.owned("two") == {"f:data": {"f:a": {}}}


def test_what_was_there_before_anybody_tracked_it_has_a_manager_of_its_own(maps: Any) -> None:
    maps.obj = config_map(a="1", b="1")
    with pytest.raises(Conflict, match=r'"before-first-apply" using v1: \.data\.a'):
        maps.apply("me", config_map(a="2"))
    maps.apply("me", config_map(a="1"))
    assert maps.owned("before-first-apply", "Update") == {"f:data": {".": {}, "f:a": {}, "f:b": {}}}


def test_managers_of_versions_that_are_gone_are_dropped(maps: Any) -> None:
    maps.create("one", config_map(a="1"))
    maps.managed = maps.managed.replace(b'"apiVersion":"v1"', b'"apiVersion":"v0"')
    maps.update("two", config_map(a="2"))
    assert [entry["manager"] for entry in maps.entries()] == ["two"]


LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def test_kubectl_goes_over_from_client_side_apply_without_conflicts(maps: Any) -> None:
    obj = config_map(a="1", b="1")
    text = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"default"},"data":{"a":"1"}}'
    obj["metadata"]["annotations"] = {LAST_APPLIED: text}
    maps.create("kubectl-client-side-apply", obj)
    with pytest.raises(Conflict, match=r"1 conflict: .*\.data\.b"):
        maps.apply("kubectl", config_map(a="2", b="2"))
    with pytest.raises(Conflict):
        maps.apply("somebody", config_map(a="2"))
    maps.apply("kubectl", config_map(a="2"))
    assert maps.obj["data"] == {"a": "2", "b": "1"}
    assert '"data":{"a":"2"}' in maps.obj["metadata"]["annotations"][LAST_APPLIED]


def test_what_is_applied_must_be_of_the_kind_and_say_nothing_of_managers(maps: Any) -> None:
    with pytest.raises(BadRequest, match="invalid object type: /v2, Kind=ConfigMap"):
        maps.apply("me", {**config_map(), "apiVersion": "v2"})
    with pytest.raises(BadRequest, match=r"metadata\.managedFields must be nil"):
        maps.apply("me", {**config_map(), "metadata": {**META, "managedFields": []}})
    with pytest.raises(ApiError, match="field not declared in schema") as caught:
        maps.apply("me", {**config_map(), "foo": 1})
    assert caught.value.code == 400
    assert caught.value.message.startswith("failed to create typed patch object (default/x; /v1, Kind=ConfigMap): .foo")


def test_objects_that_are_alike_set_the_same_fields_but_say_who_and_when(maps: Any) -> None:
    made = []
    for name, creator, value in (("a", "one", "1"), ("b", "two", "1"), ("c", "one", "2"), ("d", "one", "1")):
        obj = config_map(a=value)
        obj["metadata"]["name"] = name
        if name == "d":
            obj["data"]["more"] = ""
        maps.create(creator, obj)
        made.append(maps.entries()[0])
    assert [entry["manager"] for entry in made] == ["one", "two", "one", "one"]
    assert len({entry["time"] for entry in made}) == 4
    assert made[0]["fieldsV1"] == made[1]["fieldsV1"] == made[2]["fieldsV1"]
    assert "f:more" in made[3]["fieldsV1"]["f:data"]
