"""The audit policy: which rule decides, what is wrong with one; files that are put aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiphys.apiserver.audit.event import source_addresses
from tiphys.apiserver.audit.policy import Level, of
from tiphys.apiserver.audit.rotation import MEGABYTE, RotatedFile
from tiphys.apiserver.audit.settings import LogSettings
from tiphys.apiserver.audit.sinks import fitting
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import Permanent
from tiphys.base.http.types import Peer, Request
from tiphys.base.identity import User

ANN = User("ann", groups=("devs", "system:authenticated"))
PATH = Path("policy.yaml")


def level(rules: list[dict[str, Any]], info: RequestInfo, user: User | None = ANN) -> Level:
    return of({"rules": rules}, PATH).verdict(user, info).level


def pods(verb: str = "get", namespace: str = "default", name: str = "", subresource: str = "") -> RequestInfo:
    return RequestInfo(verb, "", True, "", "v1", namespace, "pods", subresource, name)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({}, True),
        ({"users": ["ann"]}, True),
        ({"users": ["bob"]}, False),
        ({"userGroups": ["admins", "devs"]}, True),
        ({"userGroups": ["admins"]}, False),
        ({"verbs": ["get", "list"]}, True),
        ({"verbs": ["create"]}, False),
        ({"namespaces": ["default"]}, True),
        ({"namespaces": [""]}, False),
        ({"resources": [{"group": "", "resources": ["pods"]}]}, False),
        ({"resources": [{"group": "", "resources": ["pods/log"]}]}, True),
        ({"resources": [{"group": "", "resources": ["pods/*"]}]}, True),
        ({"resources": [{"group": "", "resources": ["*/log"]}]}, True),
        ({"resources": [{"group": "*", "resources": ["*"]}]}, True),
        ({"resources": [{"group": "apps"}]}, False),
        ({"resources": [{"group": ""}]}, True),
        ({"resources": [{"group": "", "resources": ["pods/log"], "resourceNames": ["web"]}]}, True),
        ({"resources": [{"group": "", "resources": ["pods/log"], "resourceNames": ["db"]}]}, False),
        ({"nonResourceURLs": ["*"]}, False),
    ],
)
def test_a_rule_fits_what_it_names(rule: dict[str, Any], fits: bool) -> None:
    found = level([{"level": "Metadata", **rule}], pods(name="web", subresource="log"))
    assert (found is Level.METADATA) is fits


def test_the_first_rule_decides_and_without_one_nothing_is_logged() -> None:
    rules = [{"level": "None", "nonResourceURLs": ["/health*"]}, {"level": "Request", "users": ["ann"]}]
    assert level(rules, RequestInfo("get", "/healthz")) is Level.NONE
    assert level(rules, RequestInfo("get", "/version")) is Level.REQUEST
    assert level(rules, pods(), None) is Level.NONE


def test_stages_add_up_and_managed_fields_are_the_rules_own() -> None:
    document = {
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [{"level": "Request", "omitStages": ["Panic"], "omitManagedFields": False}],
    }
    verdict = of(document, PATH).verdict(ANN, pods())
    assert verdict.omitted == {"RequestReceived", "Panic"}
    assert not verdict.omit_managed_fields


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({}, "rules[0].level: Required value"),
        ({"level": "All"}, 'rules[0].level: Unsupported value: "All"'),
        ({"level": "None", "omitStages": ["Never"]}, "allowed stages are RequestReceived"),
        ({"level": "None", "nonResourceURLs": ["healthz"]}, "must begin with a '/'"),
        ({"level": "None", "nonResourceURLs": ["/a*b"]}, "must be the final character"),
        ({"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["x"]}, "cannot apply to both"),
        ({"level": "None", "resources": [{"group": "apps/v1"}]}, "rules[0].resources.group"),
        ({"level": "None", "resources": [{"resourceNames": ["x"]}]}, "requires at least one resource"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, Any], problem: str) -> None:
    with pytest.raises(Permanent) as caught:
        of({"rules": [rule]}, PATH)
    assert problem in str(caught.value)


class Fixed:
    now = 1_000_000.0

    def time(self) -> float:
        self.now += 1
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_full_file_is_put_aside_and_the_oldest_go(tmp_path: Path) -> None:
    log = RotatedFile(LogSettings(str(tmp_path / "audit.log"), max_size=1, max_backups=2), Fixed())
    line = b"x" * (MEGABYTE // 2) + b"\n"
    for _ in range(9):
        log.write(line)
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) == 3
    assert files[-1] == "audit.log"
    assert files[0].startswith("audit-1970-01-12T13-")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_files_put_aside_may_be_packed(tmp_path: Path) -> None:
    log = RotatedFile(LogSettings(str(tmp_path / "audit.log"), compress=True), Fixed())
    log.write(b"a\n")
    log.rotate()
    log.close()
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".gz", ".log"]


def test_large_events_lose_their_objects() -> None:
    event = {"auditID": "x", "requestObject": "y" * 1000, "annotations": {"a": "b"}}
    small = fitting(event, 500)
    assert small is not None
    assert small["annotations"] == {"a": "b", "audit.k8s.io/truncated": "true"}
    assert "requestObject" not in small
    assert fitting(event, 10) is None


def test_addresses_are_what_proxies_say_and_then_the_peer() -> None:
    headers = {"x-forwarded-for": "192.0.2.1, nonsense, 2001:db8::1", "x-real-ip": "192.0.2.9"}
    request = Request("GET", "/", headers=headers, peer=Peer("127.0.0.1", 1))
    assert source_addresses(request) == ["192.0.2.1", "2001:db8::1", "192.0.2.9", "127.0.0.1"]


def test_a_log_that_cannot_be_put_aside_goes_on_in_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.log"
    log = RotatedFile(LogSettings(str(path), max_size=1), Fixed())
    log.write(b"x" * MEGABYTE)

    def refuse(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no"):
        log.write(b"lost\n")
    other = (tmp_path / "other").open("wb")  # has the number of the file, if that was closed
    with pytest.raises(OSError, match="no"):
        log.write(b"lost too\n")
    monkeypatch.undo()
    log.write(b"kept\n")
    log.close()
    other.close()
    assert path.read_bytes() == b"kept\n"
    assert (tmp_path / "other").read_bytes() == b""
