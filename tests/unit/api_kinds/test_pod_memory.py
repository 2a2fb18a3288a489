"""Specs that were found good are not looked at again; nothing bad gets in by looking like one of them."""

from __future__ import annotations

import copy
from typing import Any

from tiphys.api.kinds.base import Context
from tiphys.api.kinds.core.pod import Pod
from tiphys.api.kinds.core.pod_memory import KEPT, GoodSpecs, key_of

CONTEXT = Context(0.0)


def pod(volume: str = "kube-api-access-abcde", mount: str = "", **meta: Any) -> dict[str, Any]:
    mounts = [{"name": mount or volume, "mountPath": "/var/run/secrets"}]
    containers = [{"name": "c", "image": "nginx", "volumeMounts": mounts}]
    spec = {"containers": containers, "volumes": [{"name": volume, "emptyDir": {}}]}
    obj: dict[str, Any] = {"metadata": {"name": "p", "namespace": "default", **meta}, "spec": spec}
    Pod().default(obj, "v1")
    return obj


def texts(kind: Pod, obj: dict[str, Any]) -> list[str]:
    return [str(error) for error in kind.validate(obj, CONTEXT)]


def test_another_token_volume_makes_no_other_spec() -> None:
    assert key_of(pod("kube-api-access-abcde")["spec"], {}) == key_of(pod("kube-api-access-zzzzz")["spec"], {})
    assert key_of(pod("data")["spec"], {}) != key_of(pod("other")["spec"], {})


def test_two_token_volumes_are_not_mixed_up() -> None:
    kind = Pod()
    assert texts(kind, pod()) == []
    mixed = pod("kube-api-access-abcde", mount="kube-api-access-zzzzz")
    assert any('Not found: "kube-api-access-zzzzz"' in text for text in texts(kind, mixed))
    swapped = pod("kube-api-access-zzzzz", mount="kube-api-access-abcde")
    assert any('Not found: "kube-api-access-abcde"' in text for text in texts(kind, swapped))


def test_what_is_wrong_is_said_every_time() -> None:
    kind, bad = Pod(), pod()
    bad["spec"]["restartPolicy"] = "Sometimes"
    assert texts(kind, bad) == texts(kind, bad) != []


def test_annotations_are_always_looked_at() -> None:
    kind = Pod()
    assert texts(kind, pod()) == []
    name = "container.apparmor.security.beta.kubernetes.io/none"
    assert texts(kind, pod(annotations={name: "odd"})) != []


def test_generic_ephemeral_volumes_depend_on_the_name() -> None:
    spec = copy.deepcopy(pod()["spec"])
    spec["volumes"].append({"name": "x", "ephemeral": {}})
    assert key_of(spec, {}) is None


def test_the_oldest_is_forgotten() -> None:
    good = GoodSpecs()
    for i in range(KEPT + 1):
        good.add(b"%d" % i)
    assert b"0" not in good
    assert b"%d" % KEPT in good


def test_warnings_are_given_every_time() -> None:
    kind, odd = Pod(), pod()
    odd["spec"]["nodeSelector"] = {"beta.kubernetes.io/os": "linux"}
    assert kind.warnings(odd, None, CONTEXT) == kind.warnings(odd, None, CONTEXT) != []
    assert kind.warnings(pod(), None, CONTEXT) == kind.warnings(pod(), None, CONTEXT) == []


def test_warnings_are_those_of_the_pod_that_is_asked_about() -> None:
    kind, plain, odd = Pod(), pod(), pod()
    odd["spec"]["volumes"].append({"name": "old", "gitRepo": {"repository": "https://example.com/a"}})
    assert texts(kind, plain) == []
    assert kind.warnings(odd, None, CONTEXT) != []
    assert kind.warnings(plain, None, CONTEXT) == []
    assert texts(kind, odd) == []
    assert kind.warnings(plain, None, CONTEXT) == []
    assert texts(kind, odd) == []
    assert kind.warnings(odd, None, CONTEXT) != []
