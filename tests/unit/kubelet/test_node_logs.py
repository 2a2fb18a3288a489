"""Files of the node's log directory, and logs of its services."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tiphys.base.errors import BadRequest, MethodNotAllowed, NotFound
from tiphys.base.http.types import Request, Response
from tiphys.kubelet.server.nodelogs import NodeLogs, parse_query
from tiphys.kubelet.server.settings import ServerSettings

QUERIES = ServerSettings(system_log_query=True)


def ask(path: str, **query: str) -> Request:
    return Request("GET", path, urlencode(query))


async def body(response: Response) -> bytes:
    if response.stream is None:
        return response.body
    return b"".join([chunk async for chunk in response.stream])


def fetch(logs: NodeLogs, path: str, **query: str) -> bytes:
    async def scenario() -> bytes:
        rest = [part for part in path.split("/") if part][1:]
        return await body(await logs.handle(ask(path, **query), rest))

    return asyncio.run(scenario())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    logs = tmp_path / "log"
    (logs / "web").mkdir(parents=True)
    (logs / "kern.log").write_text("kernel\n")
    (logs / "web" / "web.log").write_text("served\n")
    (tmp_path / "secret").write_text("hidden")
    (logs / "link").symlink_to(tmp_path / "secret")
    return logs


def test_files_and_directories_are_shown(directory: Path) -> None:
    logs = NodeLogs(ServerSettings(), directory)
    assert fetch(logs, "/logs/kern.log") == b"kernel\n"
    listing = fetch(logs, "/logs/").decode()
    assert '<a href="kern.log">kern.log</a>\n<a href="link">link</a>\n<a href="web/">web/</a>' in listing


@pytest.mark.parametrize("path", ["/logs/../secret", "/logs/link", "/logs/nope"])
def test_nothing_outside_of_the_directory_is_shown(directory: Path, path: str) -> None:
    with pytest.raises(NotFound):
        fetch(NodeLogs(ServerSettings(), directory), path)


def test_logs_can_be_turned_off_and_queries_must_be_turned_on(directory: Path) -> None:
    with pytest.raises(MethodNotAllowed, match="logs endpoint is disabled"):
        fetch(NodeLogs(ServerSettings(system_logs=False), directory), "/logs/")
    with pytest.raises(MethodNotAllowed):
        fetch(NodeLogs(ServerSettings(), directory), "/logs/", query="web")


def test_a_service_is_looked_for_by_its_usual_file_names(directory: Path) -> None:
    logs = NodeLogs(QUERIES, directory)
    assert fetch(logs, "/logs/", query="kern") == b"kernel\n"
    assert fetch(logs, "/logs/", query="web") == b"served\n"
    assert fetch(logs, "/logs/", query="nobody") == b"\nlog not found for nobody\n"
    assert fetch(logs, "/logs/", query="web/web.log") == b"served\n"
    assert fetch(logs, "/logs/", query="../secret") == b"\nlog not found for ../secret\n"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"query": " "}, 'unit: Invalid value: " ": unit cannot be empty'),
        ({"query": "a;b"}, 'query: Invalid value: "a;b": input contains unsupported characters'),
        ({"query": "-x"}, "input contains unsupported characters"),
        ({"query": "/a", "tailLines": "1"}, "cannot specify file with options"),
        ({"query": "a", "sinceTime": "x"}, 'sinceTime: Invalid value: "x": invalid time format'),
        ({"query": "a", "tailLines": "100001"}, "tailLines: Invalid value: 100001: must be between 0 and 100000"),
        ({"query": "a", "boot": "1"}, "boot: Invalid value: 1: must be less than 1"),
        ({"query": "a", "pattern": "("}, "pattern: Invalid value"),
        (
            {"query": "a", "sinceTime": "2026-01-02T00:00:00Z", "untilTime": "2026-01-01T00:00:00Z"},
            "must be after `sinceTime`",
        ),
    ],
)
def test_queries_that_make_no_sense_are_refused(query: dict[str, str], message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_query(ask("/logs/", **query))
    assert message in refused.value.message


def test_several_services_may_be_asked_for_at_once_but_not_many() -> None:
    found = parse_query(Request("GET", "/logs/", "query=a&query=b"))
    assert found.services == ("a", "b")
    with pytest.raises(BadRequest, match="Too many"):
        parse_query(Request("GET", "/logs/", "query=a&query=b&query=c&query=d&query=e"))
