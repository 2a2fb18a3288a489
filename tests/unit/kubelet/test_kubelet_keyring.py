"""Whose credentials fit which image, who may use an image that is here, and what policies say about that."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.kubelet.registries.keyring import Keyring, Login, Origin, keyring_of, matches
from tiphys.kubelet.registries.nodefiles import node_keyring
from tiphys.kubelet.registries.records import PullRecords, credentials_of, may_use, merge, repository_of
from tiphys.kubelet.registries.verification import policy
from tiphys.runtime.types import Credential, Image, ImageConfig
from tiphys.testing.clock import VirtualClock


def encoded(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def pull_secret(name: str = "s", **auths: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": encoded({"auths": auths})},
    }


@pytest.mark.parametrize(
    ("pattern", "repository", "fits"),
    [
        ("quay.io", "quay.io/team/app", True),
        ("quay.io/team", "quay.io/team/app", True),
        ("quay.io/other", "quay.io/team/app", False),
        ("*.example.com", "eu.example.com/app", True),
        ("*.example.com", "a.eu.example.com/app", False),
        ("*.*.example.com", "a.eu.example.com/app", True),
        ("example.com", "example.com:5000/app", False),
        ("example.com:5000", "example.com:5000/app", True),
    ],
)
def test_keys_fit_by_host_port_and_path(pattern: str, repository: str, fits: bool) -> None:
    assert matches(pattern, repository) is fits


def test_the_most_specific_credentials_come_first() -> None:
    ring = Keyring()
    ring.add({"quay.io": {"username": "host"}, "https://quay.io/team": {"username": "team"}})
    assert [login.credential.username for login in ring.lookup("quay.io/team/app")] == ["team", "host"]


def test_docker_hub_has_its_own_name_in_configurations() -> None:
    ring = Keyring()
    ring.add({"https://index.docker.io/v1/": {"auth": base64.b64encode(b"me:pw:with:colons").decode()}})
    [login] = ring.lookup("docker.io/library/nginx")
    assert login.credential == Credential("me", "pw:with:colons")
    assert ring.lookup("quay.io/library/nginx") == []


def test_pull_secrets_of_both_types_are_read_and_others_passed_over() -> None:
    old = {
        "metadata": {"name": "old", "namespace": "default", "uid": "u"},
        "type": "kubernetes.io/dockercfg",
        "data": {".dockercfg": encoded({"quay.io": {"username": "old"}})},
    }
    opaque = {**pull_secret("opaque", **{"quay.io": {"username": "no"}}), "type": "Opaque"}
    ring = keyring_of([pull_secret("new", **{"quay.io": {"username": "new"}}), old, opaque])
    found = ring.lookup("quay.io/x")
    assert [login.credential.username for login in found] == ["new", "old"]
    assert found[0].origin == Origin("Secret", "default", "new", "uid-new")


def test_an_auth_that_cannot_be_read_is_no_login() -> None:
    ring = Keyring()
    ring.add({"a.io": {"auth": "%%%"}, "b.io": {"auth": base64.b64encode(b"no-colon").decode()}, "c.io": "nonsense"})
    assert not ring.lookup("a.io/x")
    assert not ring.lookup("b.io/x")
    assert not ring.lookup("c.io/x")


def test_the_node_s_own_file_is_read_where_the_kubelet_has_its_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"quay.io": {"username": "node"}}}))
    [login] = node_keyring(tmp_path).lookup("quay.io/x")
    assert login.credential.username == "node"
    assert login.origin is None


ONE = Login(Credential("a", "b"), Origin("Secret", "ns", "one", "1"))
SAME_CONTENT = Login(Credential("a", "b"), Origin("Secret", "ns", "two", "2"))
SAME_SECRET = Login(Credential("a", "changed"), Origin("Secret", "ns", "one", "1"))
OTHER = Login(Credential("x", "y"), Origin("Secret", "ns", "three", "3"))
ACCOUNT = Login(Credential("t", "t"), Origin("ServiceAccount", "ns", "default", "9"))


def test_an_image_is_for_those_who_show_what_sufficed_once() -> None:
    known = credentials_of(ONE)
    assert may_use(known, [OTHER, ONE]) == (True, None)
    assert may_use(known, [SAME_CONTENT]) == (True, SAME_CONTENT)
    assert may_use(known, [SAME_SECRET]) == (True, SAME_SECRET)
    assert may_use(known, [OTHER]) == (False, None)
    assert may_use(known, []) == (False, None)
    assert may_use(credentials_of(None), []) == (True, None)
    assert may_use(None, [ONE]) == (False, None)
    assert may_use(credentials_of(ACCOUNT), [ACCOUNT]) == (True, None)
    assert may_use(credentials_of(ACCOUNT), [ONE]) == (False, None)


def test_what_is_learnt_adds_up_until_everybody_may() -> None:
    both = merge(credentials_of(ONE), credentials_of(OTHER))
    assert both is not None
    assert [entry["name"] for entry in both["kubernetesSecrets"]] == ["one", "three"]
    assert merge(both, credentials_of(None)) == {"nodePodsAccessible": True}
    assert merge({"nodePodsAccessible": True}, credentials_of(ONE)) == {"nodePodsAccessible": True}


def test_records_outlive_the_kubelet(tmp_path: Path) -> None:
    clock = VirtualClock()
    records = PullRecords(tmp_path, clock)
    records.begin("quay.io/x:1")
    assert PullRecords(tmp_path, clock).is_under_way("quay.io/x:1")
    records.succeeded("quay.io/x:1", "sha256:abc", ONE)
    again = PullRecords(tmp_path, clock)
    assert not again.is_under_way("quay.io/x:1")
    record = again.pulled("sha256:abc")
    assert record is not None
    assert record["credentialMapping"] == {"quay.io/x": credentials_of(ONE)}
    again.forget(["sha256:other"])
    assert again.pulled("sha256:abc") is None


def test_a_pull_that_a_kill_cut_off_counts_as_pulled_when_the_image_is_here(tmp_path: Path) -> None:
    clock = VirtualClock()
    PullRecords(tmp_path, clock).begin("nginx")
    PullRecords(tmp_path, clock).begin("gone")
    here = Image("sha256:abc", ("docker.io/library/nginx:latest",), (), 1, ImageConfig())
    again = PullRecords(tmp_path, clock)
    again.recover([here])
    record = again.pulled("sha256:abc")
    assert record is not None
    assert record["credentialMapping"] == {}
    assert not again.is_under_way("gone")


@pytest.mark.parametrize(
    ("name", "allowed", "preloaded", "pulled"),
    [
        ("NeverVerify", (), False, False),
        ("NeverVerifyPreloadedImages", (), False, True),
        ("AlwaysVerify", (), True, True),
        ("NeverVerifyAllowlistedImages", (), True, True),
        ("NeverVerifyAllowlistedImages", ("quay.io/x",), False, False),
        ("NeverVerifyAllowlistedImages", ("quay.io/*",), False, False),
    ],
)
def test_policies(name: str, allowed: tuple[str, ...], preloaded: bool, pulled: bool) -> None:
    must_verify = policy(name, allowed)
    assert must_verify("quay.io/x:1", False) is preloaded
    assert must_verify("quay.io/x:1", True) is pulled


@pytest.mark.parametrize("pattern", ["quay.io/x:1", "*", "quay.io/*/x", " quay.io/x", ""])
def test_patterns_that_mean_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(Permanent, match="preloadedImagesVerificationAllowlist"):
        policy("NeverVerifyAllowlistedImages", (pattern,))


def test_a_name_without_tag_and_digest() -> None:
    assert repository_of("localhost:5000/x") == "localhost:5000/x"
    assert repository_of("localhost:5000/x:1@sha256:ab") == "localhost:5000/x"
