"""API Priority and Fairness in a server: who is held back, what the answers say, what is kept up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tiphys.base.identity import User

Play = Callable[..., None]
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
JANE = User("jane", groups=("system:authenticated",))


def test_answers_name_the_schema_and_the_level(play: Play) -> None:
    async def scenario(world: Any) -> None:
        answer = await world.http("GET", "/api/v1/namespaces")
        schema = await world.json("GET", f"{FLOW}/flowschemas/exempt")
        level = await world.json("GET", f"{FLOW}/prioritylevelconfigurations/exempt")
        assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == schema["metadata"]["uid"]
        assert answer.headers["X-Kubernetes-PF-PriorityLevel-UID"] == level["metadata"]["uid"]
        refused = await world.http("GET", "/api/v1/namespaces", user=JANE)
        default = await world.json("GET", f"{FLOW}/flowschemas/global-default")
        assert refused.status == 403
        assert refused.headers["X-Kubernetes-PF-FlowSchema-UID"] == default["metadata"]["uid"]

    play(scenario)


def test_a_level_without_seats_sends_its_requests_away(play: Play) -> None:
    async def scenario(world: Any) -> None:
        limited = {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
        level = {"metadata": {"name": "none"}, "spec": {"type": "Limited", "limited": limited}}
        await world.http("POST", f"{FLOW}/prioritylevelconfigurations", level)
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
        rule = {"subjects": [{"kind": "User", "user": {"name": "jane"}}], "resourceRules": [everything]}
        spec = {"priorityLevelConfiguration": {"name": "none"}, "matchingPrecedence": 10, "rules": [rule]}
        made = await world.http("POST", f"{FLOW}/flowschemas", {"metadata": {"name": "jane"}, "spec": spec})
        assert made.status == 201, made.body
        refused = await world.http("GET", "/api/v1/namespaces", user=JANE)
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert b"too many requests, please try again later" in refused.body
        page = (await world.http("GET", "/metrics")).body.decode()
        labels = 'flow_schema="jane",priority_level="none",reason="concurrency-limit"'
        assert f"apiserver_flowcontrol_rejected_requests_total{{{labels}}} 1" in page

    play(scenario)


def test_what_is_mandatory_comes_back(play: Play) -> None:
    async def scenario(world: Any) -> None:
        before = await world.json("GET", f"{FLOW}/flowschemas/catch-all")
        await world.http("DELETE", f"{FLOW}/flowschemas/catch-all")
        await world.clock.sleep(1)
        after = await world.json("GET", f"{FLOW}/flowschemas/catch-all")
        assert after["spec"] == before["spec"]
        assert after["metadata"]["uid"] != before["metadata"]["uid"]

    play(scenario)


def test_a_schema_without_its_level_says_that_it_dangles(play: Play) -> None:
    async def scenario(world: Any) -> None:
        spec = {"priorityLevelConfiguration": {"name": "later"}, "matchingPrecedence": 9000}
        await world.http("POST", f"{FLOW}/flowschemas", {"metadata": {"name": "early"}, "spec": spec})
        await world.clock.sleep(1)
        found = (await world.json("GET", f"{FLOW}/flowschemas/early"))["status"]["conditions"][0]
        assert (found["type"], found["status"], found["reason"]) == ("Dangling", "True", "NotFound")
        assert found["message"].endswith('named "later" but there is no such object')
        limited = {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}
        level = {"metadata": {"name": "later"}, "spec": {"type": "Limited", "limited": limited}}
        await world.http("POST", f"{FLOW}/prioritylevelconfigurations", level)
        await world.clock.sleep(1)
        found = (await world.json("GET", f"{FLOW}/flowschemas/early"))["status"]["conditions"][0]
        assert (found["status"], found["reason"]) == ("False", "Found")

    play(scenario)


def test_administrators_are_never_held_back(play: Play) -> None:
    async def scenario(world: Any) -> None:
        async with asyncio.TaskGroup() as group:
            body = {"data": {"a": "b"}}
            url = "/api/v1/namespaces/default/configmaps"
            made = [
                group.create_task(world.http("POST", url, {"metadata": {"name": f"c{i}"}, **body})) for i in range(50)
            ]
        assert {task.result().status for task in made} == {201}

    play(scenario, max_reads=1, max_writes=1)
