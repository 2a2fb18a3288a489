"""The audit log of a server: what is written of requests, and what is not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import yaml

from tiphys.base.http.types import Request

RULES = [
    {"level": "None", "users": ["system:apiserver"]},
    {"level": "None", "nonResourceURLs": ["/healthz*", "/version"]},
    {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
    {"level": "RequestResponse", "resources": [{"group": "", "resources": ["configmaps"]}], "omitManagedFields": True},
    {"level": "Request", "resources": [{"group": "", "resources": ["namespaces"]}], "omitStages": ["RequestReceived"]},
    {"level": "Metadata", "omitStages": ["RequestReceived"]},
]


def policy(path: Path, rules: Any = RULES) -> str:
    path.write_text(yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
    return f"--audit-policy-file={path}"


def events(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "hunter2hunter2"}}
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "b"}}


def test_a_log_has_what_the_policy_wants_and_no_secrets(start: Any, tmp_path: Path) -> None:
    log = tmp_path / "audit" / "audit.log"

    async def main() -> None:
        async with start(policy(tmp_path / "p.yaml"), f"--audit-log-path={log}") as server:
            where = "/api/v1/namespaces/default"
            await server.ask(f"{where}/secrets", method="POST", body=SECRET, token="secret")
            made = await server.ask(f"{where}/configmaps", method="POST", body=MAP, token="secret")
            assert made.headers["audit-id"] in log.read_text()
            await server.ask("/version", token="secret")
            await server.ask(f"{where}/pods", token="plain", headers={"Audit-ID": "mine"})
            await server.ask(f"{where}/pods", token="wrong")
            asked_as = {"Impersonate-User": "ann", "Impersonate-Group": "system:masters"}
            await server.ask(f"{where}/pods", token="secret", headers=asked_as)

    asyncio.run(main())
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    assert "hunter2" not in text
    assert "aHVudGVy" not in text, "nor in base64"
    assert "/version" not in text
    found = events(log)
    made = [each for each in found if each["objectRef"].get("resource") == "configmaps"]
    assert [each["stage"] for each in made] == ["RequestReceived", "ResponseComplete"]
    assert made[1]["requestObject"]["data"] == made[1]["responseObject"]["data"] == {"a": "b"}
    assert "managedFields" not in made[1]["responseObject"]["metadata"]
    assert made[1]["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert made[1]["objectRef"] == {"resource": "configmaps", "namespace": "default", "name": "m", "apiVersion": "v1"}
    refused = next(each for each in found if each["auditID"] == "mine")
    assert refused["user"]["username"] == "bob"
    assert refused["responseStatus"]["reason"] == "Forbidden"
    assert refused["annotations"]["authorization.k8s.io/decision"] == "forbid"
    stranger = next(each for each in found if each["user"] == {})
    assert (stranger["stage"], stranger["responseStatus"]["code"]) == ("ResponseStarted", 401)
    other = next(each for each in found if "impersonatedUser" in each)
    assert other["user"]["username"] == "admin"
    assert other["impersonatedUser"] == {"username": "ann", "groups": ["system:masters", "system:authenticated"]}


def test_what_was_sent_in_protobuf_is_logged_as_it_is(start: Any, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    wire = {"Accept": "application/vnd.kubernetes.protobuf", "Accept-Encoding": "gzip"}

    async def main() -> None:
        async with start(policy(tmp_path / "p.yaml"), f"--audit-log-path={log}") as server:
            where = "/api/v1/namespaces/default/configmaps"
            await server.ask(where, method="POST", body=MAP, token="secret", headers=wire)

    asyncio.run(main())
    made = events(log)[-1]
    assert made["responseObject"]["kind"] == "ConfigMap"
    assert made["responseObject"]["data"] == {"a": "b"}


def test_a_watch_is_logged_when_it_starts_and_when_it_ends(start: Any, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"

    async def main() -> None:
        async with start(policy(tmp_path / "p.yaml"), f"--audit-log-path={log}") as server:
            await server.ask("/api/v1/pods?watch=true&timeoutSeconds=1", token="secret")

    asyncio.run(main())
    found = [each["stage"] for each in events(log) if each["verb"] == "watch"]
    assert found == ["ResponseStarted", "ResponseComplete"]


def test_events_reach_a_service_in_batches(start: Any, remote: Any, tmp_path: Path) -> None:
    got: list[dict[str, Any]] = []

    def take(request: Request) -> Any:
        got.append(orjson.loads(request.body))
        return {}

    async def main() -> None:
        async with remote(take) as service:
            config = service.kubeconfig(tmp_path / "audit.conf")
            batches = ("--audit-webhook-batch-max-size=2", "--audit-webhook-batch-max-wait=60s")
            async with start(policy(tmp_path / "p.yaml"), f"--audit-webhook-config-file={config}", *batches) as server:
                for name in ("a", "b", "c"):
                    await server.ask(f"/api/v1/namespaces/{name}", token="secret")

    asyncio.run(main())
    assert [each["kind"] for each in got] == ["EventList"] * len(got)
    assert [len(each["items"]) for each in got][:1] == [2]
    assert sorted(item["objectRef"]["name"] for each in got for item in each["items"]) == ["a", "b", "c"]


def test_lines_of_the_legacy_form_cannot_be_forged(start: Any, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    flags = (policy(tmp_path / "p.yaml"), f"--audit-log-path={log}", "--audit-log-format=legacy")

    async def main() -> None:
        async with start(*flags) as server:
            await server.ask("/api/v1/pods", token="plain", headers={"User-Agent": 'x" user="admin'})

    asyncio.run(main())
    line = log.read_text().splitlines()[-1]
    assert ' user="bob" ' in line
    assert r'user-agent="x\" user=\"admin"' in line
    assert line.endswith('response="403"')


def test_without_a_policy_nothing_is_in_the_way(start: Any) -> None:
    async def main() -> None:
        async with start() as server:
            assert (await server.ask("/version", headers={"Audit-ID": "mine"})).headers["audit-id"] == "mine"

    asyncio.run(main())
