"""Validating webhooks against a running API server: who is asked about what, and what their answers do."""

from __future__ import annotations

from typing import Any

import pytest

from webhook_world import World, config_map, deny, rule, run

MAPS = "/api/v1/namespaces/default/configmaps"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def allow(_: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


def refuse(_: dict[str, Any]) -> dict[str, Any]:
    return deny()


def pod(name: str = "p", **metadata: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "nginx"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec}


def test_a_refusal_is_the_answer() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/deny", lambda _: deny("the configmap contains unwanted key and value", reason="Nope"))
        answer = await world.create("configmaps", config_map())
        text = 'admission webhook "deny.example.com" denied the request: the configmap contains unwanted key and value'
        assert (answer["code"], answer["reason"], answer["message"]) == (400, "Nope", text)
        assert "data" not in await world.json("GET", f"{MAPS}/one")

    run(scenario)


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (None, 400, 'admission webhook "x.example.com" denied the request without explanation'),
        ({"reason": "Forbidden"}, 400, 'admission webhook "x.example.com" denied the request: Forbidden'),
        ({"code": 418, "message": "tea"}, 418, 'admission webhook "x.example.com" denied the request: tea'),
        ({"code": 200, "status": "Success"}, 400, 'admission webhook "x.example.com" denied the request without '),
    ],
)
def test_the_status_of_a_refusal(status: Any, code: int, text: str) -> None:
    async def scenario(world: World) -> None:
        await world.hook("/x", lambda _: {"allowed": False, "status": status})
        answer = await world.http("POST", MAPS, config_map())
        assert answer.status == code
        shown = await world.create("configmaps", config_map())
        assert shown["status"] == "Failure"
        assert shown["message"].startswith(text)

    run(scenario)


def test_a_review_has_every_field() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/all", allow, rules=[rule("*", "", "v1", "configmaps")])
        await world.json("POST", f"{MAPS}?fieldManager=me&dryRun=All", config_map("one", a="1"))
        [asked] = world.asked
        assert asked.pop("uid")
        shown = asked.pop("object")
        assert (shown["kind"], shown["apiVersion"], shown["data"]) == ("ConfigMap", "v1", {"a": "1"})
        assert shown["metadata"]["name"] == "one"
        resource = {"group": "", "version": "v1", "resource": "configmaps"}
        kind = {"group": "", "version": "v1", "kind": "ConfigMap"}
        assert asked == {
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": "one",
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {
                "username": "admin",
                "uid": "1",
                "groups": ["system:masters", "system:authenticated"],
                "extra": {"team": ["a", "b"]},
            },
            "oldObject": None,
            "dryRun": True,
            "options": {
                "kind": "CreateOptions",
                "apiVersion": "meta.k8s.io/v1",
                "dryRun": ["All"],
                "fieldManager": "me",
            },
        }

    run(scenario)


def test_updates_and_deletions_show_the_old_object() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/all", allow, rules=[rule("UPDATE,DELETE", "", "v1", "configmaps")])
        await world.create("configmaps", config_map("one", a="1"))
        await world.json("PUT", f"{MAPS}/one", config_map("one", a="2"))
        patch: dict[str, Any] = {"content_type": "application/merge-patch+json"}
        await world.json("PATCH", f"{MAPS}/one?force=true", {"data": {"a": "3"}}, **patch)
        await world.json("PATCH", f"{MAPS}/one", {"data": {"a": "3"}}, **patch)
        await world.json("DELETE", f"{MAPS}/one", {"gracePeriodSeconds": 5})
        put, patched, deleted = world.asked
        for review in (put, patched, deleted):
            assert [one["operation"] for one in review["oldObject"]["metadata"]["managedFields"]]
        assert put["object"]["metadata"]["managedFields"]
        assert (put["operation"], put["object"]["data"], put["oldObject"]["data"]) == ("UPDATE", {"a": "2"}, {"a": "1"})
        assert patched["options"] == {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}
        assert (deleted["operation"], deleted["object"], deleted["oldObject"]["data"]) == ("DELETE", None, {"a": "3"})
        assert deleted["options"] == {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 5}

    run(scenario)


def test_every_object_of_a_collection_is_asked_about() -> None:
    async def scenario(world: World) -> None:
        decide = lambda request: deny() if request["name"] == "b" else {"allowed": True}  # noqa: E731 - short
        await world.hook("/all", decide, rules=[rule("DELETE", "", "v1", "configmaps")])
        for name in ("a", "b", "c"):
            await world.create("configmaps", config_map(name))
        answer = await world.json("DELETE", MAPS)
        assert 'admission webhook "all.example.com" denied the request' in answer["message"]
        assert {asked["name"] for asked in world.asked} >= {"b"}
        assert (await world.json("GET", f"{MAPS}/b"))["kind"] == "ConfigMap"

    run(scenario)


def test_attaching_can_be_denied() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/attach", lambda _: deny("attaching to pod 'p' is not allowed"), rules=[
            rule("CONNECT", "", "v1", "pods/attach")
        ])  # fmt: skip
        await world.create("pods", pod())
        url = "/api/v1/namespaces/default/pods/p/attach?container=c&stdin=1&stdout=true&tty=false"
        answer = await world.json("POST", url)
        assert answer["message"].endswith("denied the request: attaching to pod 'p' is not allowed")
        [asked] = world.asked
        assert asked["kind"] == {"group": "", "version": "v1", "kind": "PodAttachOptions"}
        assert (asked["subResource"], asked["requestSubResource"], asked["name"]) == ("attach", "attach", "p")
        options = {"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": True, "stdout": True, "container": "c"}
        assert (asked["object"], asked["options"], asked["operation"]) == (options, None, "CONNECT")

    run(scenario)


def test_subresources_are_reviewed_as_what_is_sent() -> None:
    async def scenario(world: World) -> None:
        rules = [rule("*", "*", "*", "pods/eviction,pods/binding,replicationcontrollers/scale,*/token")]
        await world.hook("/sub", allow, rules=rules)
        await world.create("pods", pod())
        target = {"apiVersion": "v1", "kind": "Node", "name": "n"}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}
        assert (await world.create("pods/p/binding", binding))["status"] == "Success"
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
        assert (await world.create("pods/p/eviction", eviction))["status"] == "Success"
        template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
        controller = {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "r"}}
        await world.create(
            "replicationcontrollers", {**controller, "spec": {"selector": {"a": "b"}, "template": template}}
        )
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "r"}, "spec": {"replicas": 3}}
        url = "/api/v1/namespaces/default/replicationcontrollers/r/scale"
        assert (await world.json("PUT", url, scale))["spec"] == {"replicas": 3}
        shown = [(asked["operation"], asked["kind"]["kind"], asked["object"]["kind"]) for asked in world.asked]
        assert shown == [
            ("CREATE", "Binding", "Binding"),
            ("CREATE", "Eviction", "Eviction"),
            ("UPDATE", "Scale", "Scale"),
        ]
        assert world.asked[2]["oldObject"]["spec"] == {"replicas": 1}

    run(scenario)


def test_a_webhook_that_cannot_be_reached_refuses_unless_it_fails_open() -> None:
    async def scenario(world: World) -> None:
        nobody = {"url": "https://127.0.0.1:1/x"}
        await world.hook("/open", allow, clientConfig=nobody, failurePolicy="Ignore")
        assert (await world.create("configmaps", config_map("fine")))["kind"] == "ConfigMap"
        await world.hook("/closed", allow, clientConfig=nobody)
        answer = await world.create("configmaps", config_map())
        text = (
            'failed calling webhook "closed.example.com": failed to call webhook: Post "https://127.0.0.1:1/x?timeout='
            '10s": dial tcp 127.0.0.1:1: connect: connection refused'
        )
        assert (answer["code"], answer["reason"]) == (500, "InternalError")
        assert answer["message"] == f"Internal error occurred: {text}"
        assert answer["details"]["causes"] == [{"message": text}]

    run(scenario)


def test_namespaces_can_be_left_out() -> None:
    async def scenario(world: World) -> None:
        selector = {"matchExpressions": [{"key": "skip", "operator": "NotIn", "values": ["yes"]}]}
        await world.hook("/deny", refuse, namespaceSelector=selector)
        await world.json(
            "POST",
            "/api/v1/namespaces",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "calm", "labels": {"skip": "yes"}}},
        )
        made = await world.json("POST", "/api/v1/namespaces/calm/configmaps", config_map())
        assert made["kind"] == "ConfigMap"
        assert (await world.create("configmaps", config_map()))["code"] == 400
        missing = await world.json("POST", "/api/v1/namespaces/nowhere/configmaps", config_map())
        assert missing["message"] == 'namespaces "nowhere" not found'

    run(scenario)


def test_objects_are_selected_by_their_labels_before_or_after() -> None:
    async def scenario(world: World) -> None:
        selector = {"matchLabels": {"watched": "yes"}}
        await world.hook("/deny", allow, objectSelector=selector, rules=[rule("*", "*", "*", "*")])
        labelled = {**config_map(), "metadata": {"name": "one", "labels": {"watched": "yes"}}}
        await world.create("configmaps", config_map())
        await world.json("PUT", f"{MAPS}/one", labelled)
        await world.json("PUT", f"{MAPS}/one", config_map())
        await world.json("PUT", f"{MAPS}/one", config_map("one", a="1"))
        assert [asked["operation"] for asked in world.asked] == ["UPDATE", "UPDATE"]

    run(scenario)


def test_scope_tells_namespaced_from_cluster_wide() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/cluster", allow, rules=[rule("CREATE", "*", "*", "*", scope="Cluster")])
        await world.create("configmaps", config_map())
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "space"}}
        await world.json("POST", "/api/v1/namespaces", space)
        assert [(asked["name"], asked["namespace"]) for asked in world.asked] == [("space", "space")]

    run(scenario)


def test_equivalent_versions_are_converted_and_exact_ones_are_not_asked() -> None:
    async def scenario(world: World) -> None:
        rules = [rule("CREATE", "autoscaling", "v1", "horizontalpodautoscalers")]
        await world.hook("/equivalent", allow, rules=rules)
        await world.hook("/exact", refuse, rules=rules, matchPolicy="Exact")
        metric = {"type": "Resource", "resource": {"name": "cpu", "target": {
            "type": "Utilization", "averageUtilization": 70}}}  # fmt: skip
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
        scaler = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": target, "maxReplicas": 3, "metrics": [metric]},
        }
        url = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
        assert (await world.json("POST", url, scaler))["kind"] == "HorizontalPodAutoscaler"
        [asked] = world.asked
        assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v1", "v2")
        assert (asked["resource"]["version"], asked["requestResource"]["version"]) == ("v1", "v2")
        assert asked["object"]["apiVersion"] == "autoscaling/v1"
        assert asked["object"]["spec"]["targetCPUUtilizationPercentage"] == 70

    run(scenario)


def test_configurations_themselves_are_nobodys_business() -> None:
    async def scenario(world: World) -> None:
        rules = [rule("*", "admissionregistration.k8s.io", "*", "*")]
        await world.hook("/grip", refuse, rules=rules)
        await world.hook("/other", refuse)
        await world.json("DELETE", f"{CONFIGURATIONS}/other")
        await world.json("DELETE", f"{CONFIGURATIONS}/grip")
        assert (await world.json("GET", CONFIGURATIONS))["items"] == []
        assert world.asked == []

    run(scenario)


def test_a_change_of_the_configuration_counts_at_once() -> None:
    async def scenario(world: World) -> None:
        hook = await world.hook("/deny", refuse)
        assert (await world.create("configmaps", config_map()))["code"] == 400
        hook["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
        await world.json("PUT", f"{CONFIGURATIONS}/deny", hook)
        assert (await world.create("configmaps", config_map()))["kind"] == "ConfigMap"
        patch = [{"op": "replace", "path": "/webhooks/0/rules/0/operations/0", "value": "CREATE"}]
        media: dict[str, Any] = {"content_type": "application/json-patch+json"}
        await world.json("PATCH", f"{CONFIGURATIONS}/deny", patch, **media)
        assert (await world.create("configmaps", config_map("two")))["code"] == 400
        await world.json("DELETE", CONFIGURATIONS)
        assert (await world.create("configmaps", config_map("two")))["kind"] == "ConfigMap"

    run(scenario)


def test_a_slow_webhook_is_not_waited_for() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/slow", allow, timeoutSeconds=1)
        world.hang = True
        answer = await world.create("configmaps", config_map())
        assert "context deadline exceeded" in answer["message"]
        assert f'Post "https://127.0.0.1:{world.port}/slow?timeout=1s"' in answer["message"]

    run(scenario)


def test_a_dry_run_reaches_only_webhooks_without_side_effects() -> None:
    async def scenario(world: World) -> None:
        made = await world.hook("/effects", allow)
        await world.store_hook(made, sideEffects="Some")
        answer = await world.create("configmaps", config_map(), "?dryRun=All")
        text = 'admission webhook "effects.example.com" does not support dry run'
        assert (answer["code"], answer["message"]) == (400, text)
        assert (await world.create("configmaps", config_map()))["kind"] == "ConfigMap"

    run(scenario)


def test_warnings_and_audit_annotations_are_passed_on() -> None:
    async def scenario(world: World) -> None:
        await world.hook(
            "/warn", lambda _: {"allowed": True, "warnings": ["mind the gap"], "auditAnnotations": {"why": "because"}}
        )
        answer = await world.http("POST", MAPS, config_map())
        assert answer.headers["Warning"] == '299 - "mind the gap"'

    run(scenario)


def test_validating_webhooks_are_asked_at_the_same_time_and_the_first_refusal_counts() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/a", allow)
        await world.hook("/b", lambda _: deny("b"))
        await world.hook("/c", lambda _: deny("c"))
        answer = await world.create("configmaps", config_map())
        assert answer["message"] == 'admission webhook "b.example.com" denied the request: b'
        assert sorted(world.paths) == ["/a", "/b", "/c"]

    run(scenario)


def test_what_is_generated_is_known_to_validating_webhooks() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/see", allow)
        made = await world.create("configmaps", {**config_map(), "metadata": {"generateName": "made-"}})
        [asked] = world.asked
        assert asked["name"] == asked["object"]["metadata"]["name"] == made["metadata"]["name"]
        assert asked["object"]["metadata"]["uid"] == made["metadata"]["uid"]

    run(scenario)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (None, "webhook response was absent"),
        ({"allowed": True, "patch": "e30="}, "validating webhook may not return response.patch"),
        ({"allowed": True, "patchType": "JSONPatch"}, "validating webhook may not return response.patchType"),
        ({"allowed": True, "uid": "other"}, 'got "other"'),
        ({"allowed": "yes"}, "json: cannot unmarshal"),
    ],
)
def test_answers_that_are_no_reviews(response: Any, text: str) -> None:
    async def scenario(world: World) -> None:
        await world.hook("/odd", lambda _: response)
        answer = await world.create("configmaps", config_map())
        assert answer["message"].startswith(
            'Internal error occurred: failed calling webhook "odd.example.com": received invalid webhook response: '
        )
        assert text in answer["message"]

    run(scenario)


def test_the_old_version_of_reviews_is_spoken_too() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/old", lambda _: {"allowed": False, "uid": ""}, admissionReviewVersions=["v9", "v1beta1"])
        answer = await world.create("configmaps", config_map())
        assert answer["message"] == 'admission webhook "old.example.com" denied the request without explanation'
        assert world.versions == ["admission.k8s.io/v1beta1"]

    run(scenario)


def test_reviews_of_access_are_requests_too() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/all", refuse, rules=[rule("CREATE", "authorization.k8s.io", "*", "*")])
        spec = {"user": "u", "resourceAttributes": {"verb": "get", "resource": "pods"}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = await world.json("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        assert answer["code"] == 400

    run(scenario)


def test_match_conditions_choose() -> None:
    async def scenario(world: World) -> None:
        await world.hook(
            "/deny",
            refuse,
            matchConditions=[
                {"name": "named", "expression": "object.metadata.name != 'skip-me'"},
                {"name": "user", "expression": "request.userInfo.username == 'admin'"},
                {"name": "may", "expression": "authorizer.group('').resource('pods').check('create').allowed()"},
            ],
        )
        assert (await world.create("configmaps", config_map("skip-me")))["kind"] == "ConfigMap"
        assert (await world.create("configmaps", config_map()))["code"] == 400

    run(scenario)


def test_match_conditions_that_fail_go_by_the_failure_policy() -> None:
    async def scenario(world: World) -> None:
        odd = [{"name": "odd", "expression": "object.data.missing == 'x'"}]
        await world.hook("/open", refuse, matchConditions=odd, failurePolicy="Ignore")
        assert (await world.create("configmaps", config_map("a", b="c")))["kind"] == "ConfigMap"
        await world.hook("/closed", allow, matchConditions=odd)
        answer = await world.create("configmaps", config_map("b", b="c"))
        assert (answer["code"], answer["reason"]) == (403, "Forbidden")
        assert answer["message"].startswith('configmaps "b" is forbidden: ')
        assert "no such key: missing" in answer["message"]

    run(scenario)


def test_match_conditions_that_are_no_expressions_are_refused() -> None:
    async def scenario(world: World) -> None:
        made = await world.hook("/fine", allow)
        made["webhooks"][0]["matchConditions"] = [{"name": "bad", "expression": "... [] bad expression"}]
        answer = await world.json("PUT", f"{CONFIGURATIONS}/fine", made)
        assert answer["code"] == 422
        assert "compilation failed" in answer["message"]

    run(scenario)


def test_calls_are_counted() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/a", allow)
        await world.hook("/b", lambda _: deny("b", code=422))
        await world.hook("/open", allow, clientConfig={"url": "https://127.0.0.1:1/"}, failurePolicy="Ignore")
        await world.create("configmaps", config_map())
        page = (await world.http("GET", "/metrics")).body.decode()
        who = 'type="validating",operation="CREATE"'
        prefix, step = "apiserver_admission_webhook_", "apiserver_admission_step_admission_duration_seconds_count"
        for line in (
            f'{prefix}request_total{{name="a.example.com",{who},code="200",rejected="false"}} 1',
            f'{prefix}request_total{{name="b.example.com",{who},code="422",rejected="true"}} 1',
            f'{prefix}rejection_count{{name="b.example.com",{who},error_type="no_error",rejection_code="422"}} 1',
            f'{prefix}fail_open_count{{name="open.example.com",type="validating"}} 1',
            f'{step}{{operation="CREATE",rejected="true",type="validate"}} 1',
        ):
            assert line in page

    run(scenario)
