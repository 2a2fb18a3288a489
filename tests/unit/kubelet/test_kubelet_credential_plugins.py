"""Credential provider plugins: their configuration, what they are asked, how long their answers hold."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.errors import NotFound, Permanent
from tiphys.kubelet.registries.keyring import Origin
from tiphys.kubelet.registries.plugins import Account, Plugins, account_of
from tiphys.kubelet.registries.providers import Provider, provider_of, read_providers
from tiphys.testing.clock import VirtualClock

V1 = "credentialprovider.kubelet.k8s.io/v1"
POD: dict[str, Any] = {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": {"serviceAccountName": "sa"}}
SCRIPT = """#!/bin/sh
cat >> "$LOG"; echo >> "$LOG"
echo "$@" "$COLOUR" >> "$LOG.args"
cat "$ANSWER"
"""


class Plugin:
    """A program that writes down what it is asked and says what `answer` is."""

    def __init__(self, directory: Path) -> None:
        self._log, self._answer = directory / "log", directory / "answer"
        self.directory = directory
        (directory / "plugin").write_text(SCRIPT)
        (directory / "plugin").chmod(0o755)
        self.answer()

    def answer(self, kind: str = "Image", duration: str | None = None, password: str = "pw", **more: Any) -> None:
        auth = {"*.reg.io": {"username": "me", "password": password}}
        said = {"kind": "CredentialProviderResponse", "apiVersion": V1, "cacheKeyType": kind, "auth": auth, **more}
        self._answer.write_text(json.dumps(said | ({"cacheDuration": duration} if duration else {})))

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def provider(self, **more: Any) -> Provider:
        env = (("LOG", str(self._log)), ("ANSWER", str(self._answer)), ("COLOUR", "green"))
        return Provider("plugin", V1, ("*.reg.io",), **{"cache_seconds": 0.0, "args": ("-a", "b"), "env": env, **more})


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


async def no_account(pod: Any, provider: Provider) -> Account:
    raise AssertionError("nobody asks for it")


def users(plugins: Plugins, repository: str, pod: Any = POD) -> list[str]:
    ring = asyncio.run(plugins.keyring(pod, repository))
    return [login.credential.username for login in ring.lookup(repository)]


def test_a_plugin_is_asked_for_images_that_it_knows(plugin: Plugin) -> None:
    plugins = Plugins([plugin.provider()], plugin.directory, VirtualClock(), no_account)
    assert users(plugins, "eu.reg.io/app") == ["me"]
    assert users(plugins, "other.io/app") == []
    assert plugin.asked == [{"kind": "CredentialProviderRequest", "apiVersion": V1, "image": "eu.reg.io/app"}]
    assert (plugin.directory / "log.args").read_text() == "-a b green\n"


@pytest.mark.parametrize(("kind", "times"), [("Image", 2), ("Registry", 1), ("Global", 1)])
def test_an_answer_holds_for_what_it_says(plugin: Plugin, kind: str, times: int) -> None:
    plugin.answer(kind, "10m")
    plugins = Plugins([plugin.provider()], plugin.directory, VirtualClock(), no_account)
    for _ in range(2):
        for repository in ("eu.reg.io/app", "eu.reg.io/other"):
            assert users(plugins, repository) == ["me"]
    assert len(plugin.asked) == times


def test_an_answer_holds_as_long_as_it_says_or_the_configuration_does(plugin: Plugin) -> None:
    clock = VirtualClock()
    plugins = Plugins([plugin.provider(cache_seconds=60.0)], plugin.directory, clock, no_account)

    def ask() -> int:
        users(plugins, "eu.reg.io/app")
        return len(plugin.asked)

    assert ask() == ask() == 1
    clock.run(clock.sleep(61))
    plugin.answer(duration="0s")
    assert ask() == 2
    assert ask() == 3


@pytest.mark.parametrize("said", ["", "{", "[]", '{"apiVersion":"other/v1"}', f'{{"apiVersion":"{V1}"}}'])
def test_nonsense_is_no_credentials(plugin: Plugin, said: str) -> None:
    (plugin.directory / "answer").write_text(said)
    plugins = Plugins([plugin.provider()], plugin.directory, VirtualClock(), no_account)
    assert users(plugins, "eu.reg.io/app") == []


def test_a_plugin_that_fails_does_not_keep_others_from_answering(plugin: Plugin) -> None:
    (plugin.directory / "broken").write_text("#!/bin/sh\necho no >&2\nexit 3\n")
    (plugin.directory / "broken").chmod(0o755)
    broken = Provider("broken", V1, ("*.reg.io",), 0.0)
    plugins = Plugins([broken, plugin.provider()], plugin.directory, VirtualClock(), no_account)
    assert users(plugins, "eu.reg.io/app") == ["me"]


def test_at_the_same_time_it_is_asked_once(plugin: Plugin) -> None:
    plugins = Plugins([plugin.provider(cache_seconds=60.0)], plugin.directory, VirtualClock(), no_account)

    async def many() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(plugins.keyring(POD, "eu.reg.io/app"))

    asyncio.run(many())
    assert len(plugin.asked) == 1


ATTRIBUTES: dict[str, Any] = {
    "audience": "reg",
    "require_account": True,
    "required_annotations": ("team",),
    "optional_annotations": ("tier", "none"),
    "cache_type": "ServiceAccount",
}
SERVICE_ACCOUNT = {"metadata": {"name": "sa", "uid": "7", "annotations": {"team": "x", "tier": "1", "other": "y"}}}


def test_a_plugin_may_be_told_of_the_pod_s_account(plugin: Plugin) -> None:
    async def account(pod: Any, provider: Provider) -> Account:
        return account_of(pod, SERVICE_ACCOUNT, provider, "token-1")

    plugins = Plugins([plugin.provider(**ATTRIBUTES)], plugin.directory, VirtualClock(), account)
    ring = asyncio.run(plugins.keyring(POD, "eu.reg.io/app"))
    [login] = ring.lookup("eu.reg.io/app")
    assert login.origin == Origin("ServiceAccount", "ns", "sa", "7")
    [asked] = plugin.asked
    assert asked["serviceAccountToken"] == "token-1"
    assert asked["serviceAccountAnnotations"] == {"team": "x", "tier": "1"}
    plugin.answer(password="token-1")
    assert users(plugins, "eu.reg.io/app") == []


def test_without_account_or_its_annotation_the_plugin_is_not_asked(plugin: Plugin) -> None:
    async def account(pod: Any, provider: Provider) -> Account:
        return account_of(pod, {"metadata": {"name": "sa"}}, provider, "t")

    async def gone(pod: Any, provider: Provider) -> Account:
        raise NotFound('serviceaccounts "sa" not found')

    clock = VirtualClock()
    for get in (account, gone):
        assert users(Plugins([plugin.provider(**ATTRIBUTES)], plugin.directory, clock, get), "eu.reg.io/app") == []
    static = {**POD, "spec": {}}
    plugins = Plugins([plugin.provider(**ATTRIBUTES)], plugin.directory, clock, account)
    assert users(plugins, "eu.reg.io/app", static) == []
    assert plugin.asked == []
    free = Plugins([plugin.provider(**ATTRIBUTES | {"require_account": False})], plugin.directory, clock, account)
    assert users(free, "eu.reg.io/app", static) == ["me"]


def test_a_program_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="did not exist"):
        Plugins([Provider("none", V1, ("x",), 0.0)], tmp_path, VirtualClock(), no_account)


ENTRY: dict[str, Any] = {
    "name": "ecr",
    "apiVersion": V1,
    "matchImages": ["*.dkr.ecr.*.amazonaws.com"],
    "defaultCacheDuration": "12h",
    "args": ["get"],
    "env": [{"name": "A", "value": "1"}],
}
TOKEN = {
    "serviceAccountTokenAudience": "reg",
    "requireServiceAccount": True,
    "cacheType": "Token",
    "requiredServiceAccountAnnotationKeys": ["a"],
}


def test_an_entry_of_the_configuration() -> None:
    found = provider_of({**ENTRY, "tokenAttributes": TOKEN})
    assert (found.name, found.cache_seconds, found.args, found.env) == ("ecr", 43_200.0, ("get",), (("A", "1"),))
    assert (found.audience, found.cache_type, found.required_annotations) == ("reg", "Token", ("a",))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": ".."}, "name"),
        ({"apiVersion": "v1"}, "apiVersion"),
        ({"matchImages": []}, "matchImages"),
        ({"defaultCacheDuration": None}, "defaultCacheDuration"),
        ({"tokenAttributes": {**TOKEN, "serviceAccountTokenAudience": ""}}, "serviceAccountTokenAudience"),
        ({"tokenAttributes": {**TOKEN, "requireServiceAccount": None}}, "requireServiceAccount"),
        ({"tokenAttributes": {**TOKEN, "requireServiceAccount": False}}, "requiredServiceAccountAnnotationKeys"),
        ({"tokenAttributes": {**TOKEN, "cacheType": "x"}}, "cacheType"),
        ({"tokenAttributes": {**TOKEN, "optionalServiceAccountAnnotationKeys": ["a"]}}, "both required and optional"),
        ({"apiVersion": V1 + "beta1", "tokenAttributes": TOKEN}, "only supported for"),
    ],
)
def test_an_entry_that_makes_no_sense_names_its_field(change: dict[str, Any], text: str) -> None:
    with pytest.raises(Permanent, match=text):
        provider_of({**ENTRY, **change})


def test_a_directory_of_files_is_read_in_order(tmp_path: Path) -> None:
    head = {"kind": "CredentialProviderConfig", "apiVersion": "kubelet.config.k8s.io/v1"}
    (tmp_path / "b.yaml").write_text(json.dumps({**head, "providers": [{**ENTRY, "name": "second"}]}))
    (tmp_path / "a.json").write_text(json.dumps({**head, "providers": [ENTRY]}))
    (tmp_path / "c.txt").write_text("not read")
    assert [one.name for one in read_providers(tmp_path)] == ["ecr", "second"]
    (tmp_path / "d.yml").write_text(json.dumps({**head, "providers": [ENTRY]}))
    with pytest.raises(Permanent, match='duplicate provider name "ecr"'):
        read_providers(tmp_path)
    for text in ("kind: Other", "kind: CredentialProviderConfig\napiVersion: x/v1", ": - :"):
        (tmp_path / "c.txt").write_text(text)
        with pytest.raises(Permanent):
            read_providers(tmp_path / "c.txt")
