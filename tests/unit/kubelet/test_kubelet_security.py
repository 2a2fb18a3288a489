"""From securityContext to what the runtime is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.kubelet.env import ConfigError
from tiphys.kubelet.security import may_be_privileged, security_of, user_of
from tiphys.kubelet.unsupported import apparmor_refusal

ANNOTATION = "container.apparmor.security.beta.kubernetes.io/c"


def pod(context: dict[str, Any] | None = None, own: dict[str, Any] | None = None, note: str = "") -> dict[str, Any]:
    container = {"name": "c", **({"securityContext": own} if own else {})}
    metadata = {"name": "p", "namespace": "n", "uid": "u", "annotations": {ANNOTATION: note} if note else {}}
    return {"metadata": metadata, "spec": {"containers": [container], "securityContext": context or {}}}


def apparmor_of(it: dict[str, Any]) -> str:
    return security_of(it, it["spec"]["containers"][0], "/seccomp").apparmor


def profile(kind: str, name: str = "") -> dict[str, Any]:
    return {"appArmorProfile": {"type": kind, **({"localhostProfile": name} if name else {})}}


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (pod(), ""),
        (pod(profile("RuntimeDefault")), "default"),
        (pod(profile("Unconfined")), "unconfined"),
        (pod(profile("Localhost", "web")), "web"),
        (pod(profile("RuntimeDefault"), profile("Localhost", "own")), "own"),
        (pod(profile("RuntimeDefault"), note="localhost/noted"), "noted"),
        (pod(profile("RuntimeDefault"), note="unconfined"), "unconfined"),
        (pod(None, profile("Unconfined"), note="runtime/default"), "unconfined"),
        (pod(note="runtime/default"), "default"),
        (pod(note="nonsense"), ""),
    ],
)
def test_the_nearest_apparmor_profile_holds(made: dict[str, Any], wanted: str) -> None:
    assert apparmor_of(made) == wanted


def test_apparmor_profiles_that_cannot_be_enforced_are_refused_in_upstreams_words() -> None:
    text = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    assert apparmor_refusal(pod(profile("RuntimeDefault")), enabled=False) == text
    assert apparmor_refusal(pod(note="localhost/x"), enabled=False) == text
    assert apparmor_refusal(pod(profile("Unconfined")), enabled=False) == ""
    assert apparmor_refusal(pod(), enabled=False) == ""
    assert apparmor_refusal(pod(profile("Localhost", "x")), enabled=True) == ""
    assert "invalid empty AppArmor profile name" in apparmor_refusal(pod(profile("Localhost", " ")), enabled=True)


WHERE = '(pod: "p_n(u)", container: c)'


@pytest.mark.parametrize(
    ("image_user", "context", "message"),
    [
        ("", {}, f"container has runAsNonRoot and image will run as root {WHERE}"),
        ("0", {}, f"container has runAsNonRoot and image will run as root {WHERE}"),
        ("0:5", {}, f"container has runAsNonRoot and image will run as root {WHERE}"),
        (
            "app",
            {},
            f"container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root {WHERE}",
        ),
        ("app", {"runAsUser": 0}, f"container's runAsUser breaks non-root policy {WHERE}"),
        (
            "2147483648",
            {},
            "container has runAsNonRoot and image has an invalid user id (2147483648). (Must be 1-(2147483647)): "
            f"must be between 0 and 2147483647, inclusive {WHERE}",
        ),
    ],
)
def test_a_forbidden_root_is_refused_in_upstreams_words(image_user: str, context: dict[str, Any], message: str) -> None:
    made = pod(context | {"runAsNonRoot": True})
    with pytest.raises(ConfigError) as failure:
        user_of(made, made["spec"]["containers"][0], image_user)
    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("image_user", "context", "user"),
    [
        ("app", {"runAsUser": 7}, "7"),
        ("5", {}, "5"),
        ("5:6", {}, "5"),
        ("5:6", {"runAsGroup": 9}, "5:9"),
        ("", {"runAsUser": 7, "runAsGroup": 8}, "7:8"),
    ],
)
def test_who_is_not_root_runs(image_user: str, context: dict[str, Any], user: str) -> None:
    made = pod(context | {"runAsNonRoot": True})
    assert user_of(made, made["spec"]["containers"][0], image_user) == user


def test_a_sandbox_is_told_of_privileged_containers() -> None:
    assert not may_be_privileged(pod())
    assert may_be_privileged(pod(None, {"privileged": True}))


@pytest.mark.parametrize(
    ("asked", "added", "dropped"),
    [
        ({"add": ["net_admin", "CAP_CHOWN"]}, ("NET_ADMIN", "CHOWN"), ()),
        ({"add": ["NET_ADMIN"], "drop": ["ALL"]}, ("NET_ADMIN",), ("ALL",)),
        ({"add": ["ALL"], "drop": ["CHOWN"]}, ("ALL",), ("CHOWN",)),
        ({"add": ["CHOWN"], "drop": ["chown"]}, (), ("CHOWN",)),
    ],
)
def test_capabilities_that_are_added_and_dropped(
    asked: dict[str, Any], added: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    made = pod(None, {"capabilities": asked})
    security = security_of(made, made["spec"]["containers"][0], "/seccomp")
    assert (security.add_capabilities, security.drop_capabilities) == (added, dropped)


def test_a_local_seccomp_profile_needs_a_name_and_lies_below_the_kubelets_directory() -> None:
    made = pod({"seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/a.json"}})
    assert security_of(made, made["spec"]["containers"][0], "/seccomp").seccomp == "/seccomp/profiles/a.json"
    made = pod({"seccompProfile": {"type": "Localhost"}})
    with pytest.raises(ConfigError, match="localhostProfile must be set if seccompProfile type is Localhost"):
        security_of(made, made["spec"]["containers"][0], "/seccomp")
