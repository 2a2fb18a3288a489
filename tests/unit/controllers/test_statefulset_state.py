from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers import statefulset_history as history
from tiphys.controllers import statefulset_pods as podlib
from tiphys.controllers.statefulset_state import Plan, Revisions, inconsistent, next_check, plan

NOW = 1_767_225_600.0


def template(image: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}}


def make(replicas: int = 3, *, rolling: Any = None, status: Any = None, **spec: Any) -> dict[str, Any]:
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling or {"partition": 0}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "default", "uid": "s", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "db"}},
            "template": template("db:2"),
            "updateStrategy": strategy,
            **spec,
        },
        "status": status or {},
    }


def revision(name: str, image: str) -> dict[str, Any]:
    data = {"spec": {"template": {**template(image), "$patch": "replace"}}}
    return {"metadata": {"name": name}, "data": data, "revision": 1}


BOTH = Revisions(revision("db-a", "db:1"), revision("db-b", "db:2"))


def pod(
    ordinal: int, revision: str = "db-b", *, phase: str = "Running", ready: bool = True, since: float = 60, **meta: Any
) -> dict[str, Any]:
    name = f"db-{ordinal}"
    labels = {podlib.NAME_LABEL: name, podlib.REVISION_LABEL: revision, "app": "db"}
    ready_since = {"type": "Ready", "status": str(ready), "lastTransitionTime": rfc3339(NOW - since)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": f"p{ordinal}", "labels": labels, **meta},
        "spec": {},
        "status": {"phase": phase, "conditions": [ready_since]},
    }


def going(ordinal: int, **more: Any) -> dict[str, Any]:
    return pod(ordinal, deletionTimestamp=rfc3339(NOW), **more)


def planned(wanted: dict[str, Any], *pods: dict[str, Any], claims: Any = None) -> Plan:
    return plan(wanted, pods, claims or {}, BOTH, 0, NOW)


def steps(wanted: dict[str, Any], *pods: dict[str, Any]) -> list[str]:
    made = planned(wanted, *pods)
    return [f"{step.verb} {step.pod['metadata']['name']}" for stage in made.stages for step in stage]


@pytest.mark.parametrize(
    ("pods", "wanted"),
    [
        ([], ["create db-0"]),
        ([pod(0)], ["create db-1"]),
        ([pod(0, ready=False)], []),
        ([pod(0, phase="Pending", ready=False), pod(2)], []),
        ([going(0), pod(1)], []),
        ([pod(0), pod(1, phase="Failed", ready=False)], ["delete db-1"]),
        ([pod(0, phase="Succeeded", ready=False)], ["delete db-0"]),
        ([pod(0), going(1, phase="Failed", ready=False)], []),
        ([pod(0), pod(1), pod(2)], []),
        ([pod(0), pod(1), pod(2), pod(3), pod(4)], ["delete db-4"]),
        ([pod(0), pod(1), pod(2), pod(3, ready=False), pod(4)], ["delete db-4"]),
        ([pod(0), pod(1), pod(2), pod(3, ready=False), pod(4, ready=False)], []),
        ([pod(0), pod(1), pod(2), pod(3), pod(4, ready=False)], ["delete db-4"]),
        ([pod(0), pod(1), pod(2), pod(3), going(4)], []),
        ([pod(0), pod(1, ready=False), pod(2), pod(3)], []),
    ],
)
def test_in_order_nothing_follows_a_pod_that_is_not_available(pods: list[Any], wanted: list[str]) -> None:
    assert steps(make(), *pods) == wanted


@pytest.mark.parametrize(
    ("pods", "wanted"),
    [
        ([], ["create db-0", "create db-1", "create db-2"]),
        ([pod(0, ready=False)], ["create db-1", "create db-2"]),
        ([going(0), pod(3), pod(4)], ["create db-1", "create db-2", "delete db-4", "delete db-3"]),
        ([pod(0, phase="Failed", ready=False), pod(1)], ["delete db-0", "create db-2"]),
    ],
)
def test_in_parallel_nothing_waits(pods: list[Any], wanted: list[str]) -> None:
    assert steps(make(podManagementPolicy="Parallel"), *pods) == wanted


@pytest.mark.parametrize(
    ("rolling", "pods", "wanted"),
    [
        ({"partition": 0}, [pod(0, "db-a"), pod(1, "db-a"), pod(2, "db-a")], ["delete db-2"]),
        ({"partition": 0}, [pod(0, "db-a"), pod(1, "db-a"), pod(2)], ["delete db-1"]),
        ({"partition": 2}, [pod(0, "db-a"), pod(1, "db-a"), pod(2)], []),
        ({"partition": 0, "maxUnavailable": 2}, [pod(n, "db-a") for n in range(3)], ["delete db-2", "delete db-1"]),
        ({"partition": 2, "maxUnavailable": 2}, [pod(n, "db-a") for n in range(3)], ["delete db-2"]),
        ({"partition": 0, "maxUnavailable": "10%"}, [pod(n, "db-a") for n in range(3)], ["delete db-2"]),
    ],
)
def test_an_update_takes_the_highest_ordinals_first(rolling: Any, pods: list[Any], wanted: list[str]) -> None:
    assert steps(make(rolling=rolling), *pods) == wanted


def test_pods_that_are_unavailable_use_up_max_unavailable() -> None:
    wanted = make(rolling={"partition": 0, "maxUnavailable": 2}, podManagementPolicy="Parallel")
    assert steps(wanted, pod(0, "db-a", ready=False), pod(1, "db-a"), pod(2, "db-a")) == ["delete db-2"]
    assert steps(wanted, pod(0, "db-a", ready=False), pod(1, "db-a"), going(2)) == []


def test_a_broken_update_stays_until_the_pod_is_deleted_by_hand() -> None:
    assert steps(make(), pod(0, "db-a"), pod(1, "db-a"), pod(2, "db-c", ready=False)) == []


def test_on_delete_and_a_set_that_goes_replace_nothing() -> None:
    old = [pod(number, "db-a") for number in range(3)]
    assert steps(make(updateStrategy={"type": "OnDelete"}), *old) == []
    leaving = make()
    leaving["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert steps(leaving, pod(0)) == []


def test_lost_pods_below_the_partition_come_back_as_they_were() -> None:
    held = make(rolling={"partition": 1})
    lost = planned(held).stages[0][0].pod
    assert lost["metadata"]["labels"][podlib.REVISION_LABEL] == "db-a"
    assert lost["spec"]["containers"][0]["image"] == "db:1"
    after = planned(held, pod(0, "db-a")).stages[0][0].pod
    assert after["spec"]["containers"][0]["image"] == "db:2"


def test_the_status_counts_by_revision_and_completes_the_update() -> None:
    wanted = make(status={"currentRevision": "db-a"})
    half = planned(wanted, pod(0, "db-a"), pod(1, ready=False), going(2)).status
    assert half == {
        "observedGeneration": 1,
        "replicas": 3,
        "readyReplicas": 2,
        "currentReplicas": 1,
        "updatedReplicas": 1,
        "currentRevision": "db-a",
        "updateRevision": "db-b",
        "collisionCount": 0,
        "availableReplicas": 2,
    }
    done = planned(wanted, pod(0), pod(1), pod(2)).status
    assert (done["currentRevision"], done["currentReplicas"]) == ("db-b", 3)
    assert inconsistent(wanted, done)
    conditions = [{"type": "Mine", "status": "True"}]
    assert not inconsistent({**wanted, "status": {**done, "conditions": conditions}}, done)


def test_min_ready_seconds_make_the_next_pod_wait() -> None:
    wanted = make(minReadySeconds=90)
    assert steps(wanted, pod(0)) == []
    assert next_check(wanted, [pod(0)], planned(wanted, pod(0)).status, NOW) == 30
    assert steps(wanted, pod(0, since=90)) == ["create db-1"]


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_a_thousand_million_pods_are_made_in_turns(policy: str) -> None:
    wanted = make(replicas=2**31 - 1, podManagementPolicy=policy)
    made = steps(wanted, pod(0), pod(7), pod(2**31 - 2))
    assert made[0] == "create db-1"
    assert len(made) == (500 if policy == "Parallel" else 1)
    assert "create db-7" not in made


def test_an_update_of_sparse_ordinals_keeps_to_its_partition() -> None:
    wanted = make(replicas=4, ordinals={"start": 5}, rolling={"partition": 2})
    pods = [pod(ordinal, "db-a") for ordinal in (5, 6, 7, 8)]
    assert steps(wanted, *pods) == ["delete db-8"]
    assert steps(wanted, *pods[:3], pod(8)) == ["delete db-7"]
    assert steps(wanted, *pods[:2], pod(7), pod(8)) == []


def test_strangers_names_and_ordinals() -> None:
    names = ("db-0", "db-01", "web-1-2", "db", "db-", "db-x", "db-99999999999")
    read = [podlib.parent_and_ordinal({"metadata": {"name": name}}) for name in names]
    assert read == [("db", 0), ("db", 1), ("web-1", 2), ("", -1), ("", -1), ("", -1), ("db", -1)]


def claim(name: str, *owners: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "ownerReferences": list(owners), **meta}}


def owner(kind: str, name: str, uid: str, *, controller: bool = True) -> dict[str, Any]:
    version = {"StatefulSet": "apps/v1", "Pod": "v1"}.get(kind, "example.com/v1")
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": controller}


SET, POD = owner("StatefulSet", "db", "s"), owner("Pod", "db-0", "p0")
STALE = owner("Pod", "db-0", "former")
OTHER = owner("Gadget", "g", "g")


def stored(scaled: str, deleted: str, replicas: int = 1) -> dict[str, Any]:
    policy = {"whenScaled": scaled, "whenDeleted": deleted}
    templates = [{"metadata": {"name": "data"}, "spec": {}}]
    return make(replicas, persistentVolumeClaimRetentionPolicy=policy, volumeClaimTemplates=templates)


def with_claim(ordinal: int, **more: Any) -> dict[str, Any]:
    held = {"name": "data", "persistentVolumeClaim": {"claimName": f"data-db-{ordinal}"}}
    return {**pod(ordinal, **more), "spec": {"volumes": [held]}}


@pytest.mark.parametrize(
    ("scaled", "deleted", "before", "after"),
    [
        ("Retain", "Retain", [SET, POD], []),
        ("Retain", "Delete", [], ["StatefulSet"]),
        ("Delete", "Retain", [POD, SET], []),
        ("Delete", "Delete", [POD], ["StatefulSet"]),
        ("Delete", "Delete", [{**SET, "controller": False}], ["StatefulSet"]),
        ("Delete", "Delete", [OTHER, SET], ["Gadget"]),
        ("Delete", "Delete", [SET], None),
        ("Retain", "Retain", [], None),
        ("Delete", "Delete", [OTHER], None),
        ("Delete", "Delete", [STALE], None),
    ],
)
def test_claims_are_owned_as_the_policy_says(scaled: str, deleted: str, before: list[Any], after: Any) -> None:
    made = planned(stored(scaled, deleted), with_claim(0), claims={"data-db-0": claim("data-db-0", *before)})
    found = [step.owned_claims for stage in made.stages for step in stage]
    if after is None:
        assert found == []
    else:
        references = found[0][0]["metadata"].get("ownerReferences", [])
        assert [each["kind"] for each in references] == after
        assert all(each.get("controller") for each in references)


def test_claims_of_condemned_pods_go_with_them() -> None:
    held = {"data-db-0": claim("data-db-0", SET), "data-db-1": claim("data-db-1", SET)}
    made = planned(stored("Delete", "Delete"), with_claim(0), with_claim(1), claims=held)
    fix, delete = (stage[0] for stage in made.stages)
    assert (fix.verb, delete.verb, delete.pod["metadata"]["name"]) == ("claims", "delete", "db-1")
    assert [each["uid"] for each in fix.owned_claims[0]["metadata"]["ownerReferences"]] == ["p1"]


def test_a_pod_waits_for_the_end_of_its_former_selfs_claim() -> None:
    made = planned(stored("Delete", "Delete"), claims={"data-db-0": claim("data-db-0", STALE)})
    assert made.stages == ()
    leaving = claim("data-db-0", SET, deletionTimestamp=rfc3339(NOW))
    step = planned(stored("Delete", "Delete"), claims={"data-db-0": leaving}).stages[0][0]
    assert (step.verb, step.blocked) == ("create", ("data-db-0",))


def test_new_claims_carry_the_selectors_labels_and_their_owner_from_the_start() -> None:
    step = planned(stored("Retain", "Delete")).stages[0][0]
    made = step.new_claims[0]["metadata"]
    assert (made["name"], made["labels"]) == ("data-db-0", {"app": "db"})
    assert made["ownerReferences"][0]["uid"] == "s"
    assert step.pod["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}]


def test_a_pending_pod_gets_the_claims_that_it_lacks() -> None:
    step = planned(stored("Retain", "Retain"), with_claim(0, phase="Pending", ready=False)).stages[0][0]
    assert (step.verb, [each["metadata"]["name"] for each in step.new_claims]) == ("claims", ["data-db-0"])


def test_going_back_renumbers_and_the_live_are_never_removed() -> None:
    wanted = make(revisionHistoryLimit=1)
    kept = [{**revision(f"r{n}", f"db:{n}"), "revision": n} for n in (1, 2, 3, 4)]
    choice = history.choose(wanted, kept)
    assert choice.renumbered is not None
    assert (choice.renumbered["metadata"]["name"], choice.renumbered["revision"]) == ("r2", 5)
    assert history.choose(make(), kept[:1]).number == 2
    assert [each["metadata"]["name"] for each in history.removable(wanted, kept, {"r1", "r2"})] == ["r3"]
    assert history.removable(make(revisionHistoryLimit=-1), kept, set()) == []
