"""Webhooks that misbehave, and many requests at once."""

from __future__ import annotations

import asyncio
from typing import Any

from webhook_world import World, config_map, patch, rule, run

MAPS = "/api/v1/namespaces/default/configmaps"


def allow(_: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def test_many_requests_share_a_few_connections() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/a", allow)
        await world.hook("/b", lambda _: patch(add("/data/x", "y")), mutating=True)
        answers = await asyncio.gather(*(world.http("POST", MAPS, config_map(f"m{n}", a="b")) for n in range(100)))
        assert {answer.status for answer in answers} == {201}
        assert len(world.asked) == 200
        assert len(world.ports) <= 100

    run(scenario)


def test_slow_webhooks_hold_up_nobody_else() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/slow", allow, timeoutSeconds=1, failurePolicy="Ignore")
        world.hang = True
        creations = [asyncio.ensure_future(world.http("POST", MAPS, config_map(f"m{n}"))) for n in range(20)]  # noqa: TID251 - a test
        assert (await world.http("GET", MAPS)).status == 200
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
        assert (await world.http("POST", "/api/v1/namespaces/default/secrets", secret)).status == 201
        assert {answer.status for answer in await asyncio.gather(*creations)} == {201}

    run(scenario)


def test_a_client_that_goes_takes_its_call_along() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/slow", allow)
        world.hang = True
        creation = asyncio.ensure_future(world.http("POST", MAPS, config_map()))  # noqa: TID251 - a test
        while not world.asked:
            await asyncio.sleep(0)  # noqa: TID251 - a test
        creation.cancel()
        await asyncio.gather(creation, return_exceptions=True)
        world.hang = False
        assert (await world.http("POST", MAPS, config_map())).status == 201

    run(scenario)


def test_a_bad_configuration_of_the_past_refuses_only_what_it_is_about() -> None:
    async def scenario(world: World) -> None:
        made = await world.hook("/old", allow, rules=[rule("CREATE", "", "v1", "secrets")])
        await world.store_hook(made, objectSelector={"matchExpressions": [{"key": "a", "operator": "Near"}]})
        assert (await world.http("POST", MAPS, config_map())).status == 201
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
        assert (await world.http("POST", "/api/v1/namespaces/default/secrets", secret)).status == 500

    run(scenario)


def test_a_webhook_for_everything_does_not_stop_the_server() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/all", allow, rules=[rule("*", "*", "*", "*/*")], failurePolicy="Ignore", timeoutSeconds=1)
        assert (await world.http("POST", MAPS, config_map())).status == 201
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        url = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        assert (await world.http("POST", url, review)).status == 201
        assert (await world.http("DELETE", f"{MAPS}/one")).status == 200
        assert {asked["operation"] for asked in world.asked} == {"CREATE", "DELETE"}

    run(scenario)
