"""Definitions of custom resources: served at once, their names and conditions, how they go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from custom_world import (
    CRDS,
    GROUP,
    MERGE,
    NAME,
    SPEC,
    World,
    condition,
    crontab,
    crontabs,
    definition,
    play,
    settle,
    version,
)

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def test_a_definition_is_established_and_its_resource_served() -> None:
    async def scenario(world: World) -> None:
        assert (await world.http("GET", crontabs())).status == 404
        crd = await world.define(definition())
        assert condition(crd, "NamesAccepted") == ("True", "NoConflicts", "no conflicts found")
        assert condition(crd, "Established") == (
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        )
        assert crd["status"]["acceptedNames"] == crd["spec"]["names"]
        assert crd["status"]["storedVersions"] == ["v1"]
        assert (await world.json("GET", crontabs()))["kind"] == "CronTabList"

    play(scenario)


def test_who_sees_a_definition_established_can_use_it_at_once() -> None:
    async def scenario(world: World) -> None:
        watch = await world.http("GET", f"{CRDS}?watch=true&resourceVersion=0")
        await world.json("POST", CRDS, definition())
        assert watch.stream is not None
        async for chunk in watch.stream:
            if b'"Established"' in chunk:
                break
        assert (await world.http("POST", crontabs(), crontab())).status == 201

    play(scenario)


def test_definitions_and_objects_outlive_a_restart() -> None:
    async def before(world: World) -> None:
        await world.define(definition())
        await world.json("POST", crontabs(), crontab(cronSpec="x"))

    async def after(world: World) -> None:
        found = await world.json("GET", f"{crontabs()}/a")
        assert found["spec"] == {"cronSpec": "x", "replicas": 3}
        groups = await world.json("GET", "/apis")
        assert GROUP in [group["name"] for group in groups["groups"]]

    play(before, after)


def test_names_that_another_definition_has_are_refused_until_they_are_free() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        names = {"plural": "tabs", "singular": "crontab", "kind": "CronTab", "listKind": "TabList", "shortNames": ["t"]}
        crd = await world.define(definition(plural="tabs", names=names))
        assert condition(crd, "NamesAccepted") == ("False", "KindConflict", '"CronTab" is already in use')
        assert condition(crd, "Established") == ("False", "NotAccepted", "not all names are accepted")
        assert crd["status"]["acceptedNames"] == {
            "plural": "tabs",
            "listKind": "TabList",
            "shortNames": ["t"],
            "kind": "",
        }
        assert (await world.http("GET", f"/apis/{GROUP}/v1/tabs")).status == 404
        await world.json("DELETE", f"{CRDS}/{NAME}")
        await settle()
        crd = await world.json("GET", f"{CRDS}/tabs.{GROUP}")
        assert condition(crd, "Established")[0] == "True"
        assert (await world.http("GET", f"/apis/{GROUP}/v1/tabs")).status == 200

    play(scenario)


def test_names_may_change_and_the_old_ones_stay_while_there_is_a_conflict() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        await world.define(definition(plural="others"))
        names = {"plural": "others", "singular": "crontab", "kind": "Other", "listKind": "OtherList"}
        crd = await world.redefine(definition(plural="others", names=names))
        assert condition(crd, "NamesAccepted") == ("False", "SingularConflict", '"crontab" is already in use')
        assert crd["status"]["acceptedNames"]["singular"] == "other"
        assert condition(crd, "Established")[0] == "True"
        crd = await world.redefine(definition(plural="others", names={**names, "singular": "another"}))
        assert condition(crd, "NamesAccepted")[0] == "True"
        listing = await world.json("GET", f"/apis/{GROUP}/v1")
        assert [one["singularName"] for one in listing["resources"]] == ["crontab", "another"]

    play(scenario)


def test_groups_of_kubernetes_need_approval() -> None:
    async def scenario(world: World) -> None:
        group = "things.k8s.io"
        crd = definition(plural="foos", group=group)
        crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, for a test"}
        made = await world.define(crd)
        assert condition(made, "KubernetesAPIApprovalPolicyConformant") == (
            "False",
            "UnapprovedAnnotation",
            'not approved: "unapproved, for a test"',
        )
        url = "https://github.com/kubernetes/kubernetes/pull/1"
        await world.merge(f"{CRDS}/foos.{group}", {"metadata": {"annotations": {"api-approved.kubernetes.io": url}}})
        await settle()
        made = await world.json("GET", f"{CRDS}/foos.{group}")
        found = condition(made, "KubernetesAPIApprovalPolicyConformant")
        assert found == ("True", "ApprovedAnnotation", f"approved in {url}")

    play(scenario)


def test_a_broken_ca_of_the_conversion_webhook_keeps_a_definition_from_being_established() -> None:
    async def scenario(world: World) -> None:
        config = {"url": "https://127.0.0.1:1/", "caBundle": "bm90IHBlbQ=="}
        webhook = {"clientConfig": config, "conversionReviewVersions": ["v1"]}
        crd = await world.json("POST", CRDS, definition(conversion={"strategy": "Webhook", "webhook": webhook}))
        if crd["kind"] == "Status":
            assert "caBundle" in crd["message"]
            return
        await settle()
        crd = await world.json("GET", f"{CRDS}/{NAME}")
        assert condition(crd, "Established") == (
            "False",
            "InvalidCABundle",
            "The conversion webhook CABundle is invalid",
        )

    play(scenario)


def test_deleting_a_definition_deletes_its_objects_first() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        for name in "abc":
            await world.json("POST", crontabs(), crontab(name))
        watch = await world.http("GET", f"{crontabs()}?watch=true&resourceVersion=0")
        answer = await world.json("DELETE", f"{CRDS}/{NAME}")
        assert answer["metadata"]["finalizers"] == [FINALIZER]
        assert condition(answer, "Terminating") == (
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        )
        await settle()
        assert (await world.http("GET", f"{CRDS}/{NAME}")).status == 404
        assert (await world.http("GET", crontabs())).status == 404
        assert watch.stream is not None
        seen = b"".join([chunk async for chunk in watch.stream])
        assert seen.count(b'"DELETED"') == 3
        assert [row for row in (await world.store.list("")).rows if row.key.startswith(GROUP)] == []

    play(scenario)


def test_a_definition_waits_for_the_finalizers_of_its_objects() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        held = crontab()
        held["metadata"]["finalizers"] = ["example.com/hold"]
        await world.json("POST", crontabs(), held)
        await world.json("DELETE", f"{CRDS}/{NAME}")
        await settle()
        crd = await world.json("GET", f"{CRDS}/{NAME}")
        progress = ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")
        assert condition(crd, "Terminating") == progress
        assert "deletionTimestamp" in (await world.json("GET", f"{crontabs()}/a"))["metadata"]
        refused = await world.json("POST", crontabs(), crontab("b"))
        text = "create not allowed while custom resource definition is terminating"
        assert (refused["code"], refused["message"]) == (403, f'{NAME} "b" is forbidden: {text}')
        listing = await world.json("GET", f"/apis/{GROUP}/v1")
        assert "create" not in listing["resources"][0]["verbs"]
        await world.merge(f"{crontabs()}/a", {"metadata": {"finalizers": None}})
        await settle()
        assert (await world.http("GET", f"{CRDS}/{NAME}")).status == 404

    play(scenario)


def test_what_a_definition_waits_for_is_told_after_a_minute() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        held = crontab()
        held["metadata"]["finalizers"] = ["example.com/hold"]
        await world.json("POST", crontabs(), held)
        await world.json("DELETE", f"{CRDS}/{NAME}")
        await world.clock.sleep(61)
        crd = await world.json("GET", f"{CRDS}/{NAME}")
        status, reason, message = condition(crd, "Terminating")
        assert (status, reason) == ("True", "InstanceDeletionCheck")
        assert message.startswith("could not confirm zero CustomResources remaining")

    play(scenario)


def test_a_deletion_goes_on_after_a_restart() -> None:
    async def before(world: World) -> None:
        await world.define(definition())
        held = crontab()
        held["metadata"]["finalizers"] = ["example.com/hold"]
        await world.json("POST", crontabs(), held)
        await world.json("DELETE", f"{CRDS}/{NAME}")

    async def after(world: World) -> None:
        await settle()
        await world.merge(f"{crontabs()}/a", {"metadata": {"finalizers": None}})
        await settle()
        assert (await world.http("GET", f"{CRDS}/{NAME}")).status == 404

    play(before, after)


def test_a_definition_that_was_never_established_goes_at_once() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        names = {"plural": "tabs", "singular": "crontab", "kind": "Tab", "listKind": "TabList"}
        await world.define(definition(plural="tabs", names=names))
        await world.json("DELETE", f"{CRDS}/tabs.{GROUP}")
        await settle()
        assert (await world.http("GET", f"{CRDS}/tabs.{GROUP}")).status == 404

    play(scenario)


def test_a_definition_can_be_deleted_and_made_again() -> None:
    async def scenario(world: World) -> None:
        for _ in range(3):
            await world.define(definition())
            assert (await world.http("POST", crontabs(), crontab())).status == 201
            await world.json("DELETE", f"{CRDS}/{NAME}")
            await settle()
            assert (await world.http("GET", crontabs())).status == 404

    play(scenario)


def test_a_collection_of_definitions_can_be_deleted() -> None:
    async def scenario(world: World) -> None:
        for plural in ("foos", "bars"):
            crd = definition(plural=plural)
            crd["metadata"]["labels"] = {"set": "one"}
            await world.define(crd)
        await world.json("DELETE", f"{CRDS}?labelSelector=set%3Done")
        await settle()
        assert (await world.json("GET", CRDS))["items"] == []

    play(scenario)


def test_the_status_of_a_definition_can_be_read_written_and_patched() -> None:
    async def scenario(world: World) -> None:
        crd = await world.define(definition())
        path = f"{CRDS}/{NAME}/status"
        own = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test"}
        crd["status"]["conditions"].append(own)
        written = await world.json("PUT", path, crd)
        assert condition(written, "StatusUpdate") == ("True", "E2E", "Set from a test")
        patched = await world.merge(
            path, {"metadata": {"annotations": {"a": "b"}}, "status": {"storedVersions": ["v1"]}}
        )
        assert patched["kind"] == "CustomResourceDefinition"
        await settle()
        found = await world.json("GET", path)
        assert condition(found, "StatusUpdate")[0] == "True"

    play(scenario)


@pytest.mark.parametrize("served", [True, False])
def test_only_served_versions_are_there(served: bool) -> None:
    async def scenario(world: World) -> None:
        await world.define(definition(version(), version("v2", served=served)))
        assert (await world.http("GET", crontabs("v2"))).status == (200 if served else 404)
        group: Any = await world.json("GET", f"/apis/{GROUP}")
        assert [one["version"] for one in group["versions"]] == (["v2", "v1"] if served else ["v1"])

    play(scenario)


def test_nothing_is_lost_when_the_server_has_to_read_everything_again() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        await world.define(definition(plural="others"))
        await world.json("POST", crontabs(), crontab())
        caches: Any = world.server.reader
        for cache in caches.all():
            cache.clear()
        await caches.load()
        assert (await world.http("GET", f"{crontabs()}/a")).status == 200
        assert (await world.json("GET", f"/apis/{GROUP}/v1/others"))["items"] == []
        assert (await world.http("POST", crontabs(), crontab("b"))).status == 201

    play(scenario)


def test_writers_and_changes_of_a_definition_do_not_disturb_each_other() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        for number in range(4):
            await world.json("POST", crontabs(), crontab(f"a{number}"))

        async def write(number: int) -> None:
            for step in range(20):
                made = await world.http(
                    "PATCH", f"{crontabs()}/a{number}", {"spec": {"image": f"{number}-{step}"}}, content_type=MERGE
                )
                assert made.status == 200, made.body
                assert (await world.http("GET", crontabs())).status == 200

        async def change() -> None:
            for number in range(10):
                properties = {**SPEC["properties"], f"field{number}": {"type": "string", "default": "x"}}
                schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
                await world.redefine(definition(version(schema=schema)))

        async with asyncio.TaskGroup() as group:
            group.create_task(change())
            for number in range(4):
                group.create_task(write(number))
        assert (await world.json("GET", f"{crontabs()}/a3"))["spec"]["field9"] == "x"

    play(scenario)
