"""Which IDs pods with a user namespace of their own get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from tiphys.base.errors import Permanent, TiphysError
from tiphys.kubelet import userns
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.metering import metered
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.runtime.types import (
    ContainerSpec,
    ContainerStatus,
    Runtime,
    RuntimeFailure,
    SandboxSpec,
    SandboxStatus,
    State,
)
from tiphys.testing.clock import VirtualClock

UNIT = userns.UNIT


def config(tmp_path: Path, node: str = "n1", **fields: Any) -> KubeletConfig:
    return KubeletConfig(node, tmp_path / node, userns_claims=tmp_path / "claims", **fields)


def pod(uid: str, host_users: bool | None = False) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "name": uid}, "spec": {} if host_users is None else {"hostUsers": host_users}}


@pytest.fixture(autouse=True)
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userns, "supported", lambda: True)
    monkeypatch.setattr(userns, "_subordinate", lambda: None)


def test_pods_of_the_hosts_user_namespace_get_none(tmp_path: Path) -> None:
    assert userns.mapping(config(tmp_path), pod("a", None)) is None
    assert userns.mapping(config(tmp_path), pod("a", True)) is None


def test_every_pod_of_the_machine_has_a_range_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    one, two = config(tmp_path), config(tmp_path, "n2")
    assert userns.mapping(one, pod("a")) == (UNIT, UNIT)
    assert userns.mapping(two, pod("b")) == (2 * UNIT, UNIT)
    assert userns.mapping(one, pod("c")) == (3 * UNIT, UNIT)
    assert userns.mapping(one, pod("a")) == (UNIT, UNIT)


def test_the_pods_file_is_upstreams(tmp_path: Path) -> None:
    userns.mapping(config(tmp_path), pod("a"))
    entry = [{"hostId": UNIT, "containerId": 0, "length": UNIT}]
    assert json.loads((tmp_path / "n1/pods/a/userns").read_text()) == {"uidMappings": entry, "gidMappings": entry}


def test_a_range_is_free_once_the_pods_directory_is_gone(tmp_path: Path) -> None:
    node = config(tmp_path)
    userns.mapping(node, pod("a"))
    userns.mapping(node, pod("b"))
    (tmp_path / "n1/pods/a/userns").unlink()
    assert userns.mapping(node, pod("c")) == (UNIT, UNIT)


def test_a_range_is_given_back_with_its_pod(tmp_path: Path) -> None:
    node = config(tmp_path)
    userns.mapping(node, pod("a"))
    userns.mapping(node, pod("b"))
    userns.release(node, "a")
    userns.release(node, "a")
    userns.release(node, "never")
    assert sorted(path.name for path in (tmp_path / "claims").iterdir()) == [str(2 * UNIT), "lock"]
    assert userns.mapping(node, pod("c")) == (UNIT, UNIT)
    userns.release(node, "a")
    assert (tmp_path / "claims" / str(UNIT)).is_symlink()


def test_after_a_restart_of_the_machine_a_range_that_was_given_away_is_replaced(tmp_path: Path) -> None:
    node = config(tmp_path)
    userns.mapping(node, pod("a"))
    (tmp_path / "claims" / str(UNIT)).unlink()
    assert userns.mapping(node, pod("b")) == (UNIT, UNIT)
    assert userns.mapping(node, pod("a")) == (2 * UNIT, UNIT)


def test_ranges_can_be_longer_and_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userns, "_subordinate", lambda: (4 * UNIT, 2 * UNIT))
    node = config(tmp_path, userns_ids_per_pod=2 * UNIT, max_pods=1)
    assert userns.mapping(node, pod("a")) == (4 * UNIT, 2 * UNIT)
    with pytest.raises(TiphysError, match="could not find an empty slot to allocate a user namespace"):
        userns.mapping(node, pod("b"))


@pytest.mark.parametrize(
    ("unit", "ids", "text"),
    [
        (UNIT + 1, None, "is not a multiple of 65536"),
        (UNIT, (UNIT + 1, 200 * UNIT), "assigned ID 65537 is not a multiple"),
        (UNIT, (0, 200 * UNIT), "must be greater or equal to 65536"),
        (UNIT, (UNIT, 200 * UNIT + 1), "IDs length 13107201 is not a multiple"),
        (UNIT, (UNIT, 109 * UNIT), "not enough to support 110 pods"),
    ],
)
def test_what_does_not_fit_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: int, ids: tuple[int, int] | None, text: str
) -> None:
    monkeypatch.setattr(userns, "_subordinate", lambda: ids)
    with pytest.raises(Permanent, match=text):
        userns.node_range(config(tmp_path, userns_ids_per_pod=unit))


def test_ranges_of_different_lengths_do_not_overlap(tmp_path: Path) -> None:
    short, long = config(tmp_path), config(tmp_path, "n2", userns_ids_per_pod=2 * UNIT)
    assert userns.mapping(long, pod("a")) == (2 * UNIT, 2 * UNIT)
    assert [userns.mapping(short, pod(name)) for name in "bc"] == [(UNIT, UNIT), (4 * UNIT, UNIT)]
    assert userns.mapping(long, pod("d")) == (6 * UNIT, 2 * UNIT)
    userns.release(long, "a")
    assert userns.mapping(short, pod("e")) == (2 * UNIT, UNIT)


def test_subordinate_ids_are_one_line() -> None:
    assert userns.subordinate_ids("root:1:2\nkubelet:65536:131072\n") == (65536, 131072)
    assert userns.subordinate_ids("root:1:2\n") is None
    with pytest.raises(Permanent, match="must be one line"):
        userns.subordinate_ids("kubelet:1:2\nkubelet:3:4\n")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"uidMappings": []}, "invalid user namespace mappings file"),
        ({"gidMappings": [{"hostId": 1, "containerId": 0, "length": UNIT}]}, "should be identical"),
        ("x", "invalid user namespace mappings file"),
    ],
)
def test_a_broken_file_is_not_believed(change: Any, text: str) -> None:
    entry = [{"hostId": UNIT, "containerId": 0, "length": UNIT}]
    content = json.dumps({"uidMappings": entry, "gidMappings": entry} | change) if isinstance(change, dict) else change
    with pytest.raises(Permanent, match=text):
        userns.parse(content)


def test_without_a_kernel_for_it_the_pod_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userns, "supported", lambda: False)
    with pytest.raises(Permanent, match=r"can't set `spec.hostUsers: false`, runtime does not support"):
        userns.mapping(config(tmp_path), pod("a"))


class _Failing:
    """A runtime whose containers never start."""

    images = None

    async def create_sandbox(self, spec: SandboxSpec) -> SandboxStatus:
        return SandboxStatus(spec, State.RUNNING)

    async def start_container(self, id: str) -> ContainerStatus:
        raise RuntimeFailure("no")

    async def container(self, id: str) -> ContainerStatus:
        return ContainerStatus(ContainerSpec(id, id.split("-", maxsplit=1)[0], "image", ("x",)), State.EXITED)

    async def remove_sandbox(self, id: str) -> None: ...


def test_pods_with_user_namespaces_and_the_first_failure_of_each_are_counted() -> None:
    clock = VirtualClock()
    metrics = KubeletMetrics()
    runtime = metered(cast("Runtime", _Failing()), metrics, clock)

    async def scenario() -> None:
        await runtime.create_sandbox(SandboxSpec("plain"))
        await runtime.create_sandbox(SandboxSpec("mapped", user_namespace=(UNIT, UNIT)))
        for id in ("plain-a", "mapped-a", "mapped-b"):
            with pytest.raises(RuntimeFailure):
                await runtime.start_container(id)
        await runtime.remove_sandbox("mapped")

    clock.run(scenario())
    assert metrics.started_mapped_pods.value() == 1
    assert metrics.started_mapped_pods_errors.value() == 1
