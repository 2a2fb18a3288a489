"""Validating webhooks against a running API server."""

from __future__ import annotations

from typing import Any

from webhook_world import World, config_map, deny, rule, run


def allow(_: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


def test_a_refusal_is_the_answer() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/deny", lambda _: deny("the configmap contains unwanted key and value", reason="Nope"))
        answer = await world.create("configmaps", config_map())
        text = 'admission webhook "deny.example.com" denied the request: the configmap contains unwanted key and value'
        assert (answer["code"], answer["reason"], answer["message"]) == (400, "Nope", text)
        assert "data" not in await world.json("GET", "/api/v1/namespaces/default/configmaps/one")

    run(scenario)
