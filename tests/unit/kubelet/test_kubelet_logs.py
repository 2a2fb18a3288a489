"""Reading container logs, also while they grow and rotate."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tiphys.base.clock import SystemClock
from tiphys.base.errors import ApiError, BadRequest, Invalid
from tiphys.base.http.types import Request
from tiphys.kubelet.server.containers import log_container
from tiphys.kubelet.server.logs import Follower, LogOptions, parse_options, read_log
from tiphys.runtime.logs import LineSplitter, LogWriter


def line(second: int, text: str, stream: str = "stdout", tag: str = "F") -> str:
    return f"2026-01-31T09:08:{second:02d}.000000001Z {stream} {tag} {text}\n"


async def text_of(path: Path, **options: object) -> str:
    return b"".join([chunk async for chunk in read_log(path, LogOptions(**options))]).decode()  # type: ignore[arg-type]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    (tmp_path / "0.log.2").write_text(line(1, "one"))
    (tmp_path / "0.log.1").write_text(line(2, "two") + line(3, "oops", "stderr"))
    path.write_text(line(4, "par", tag="P") + line(4, "tial") + line(5, "five"))
    return path


def test_a_log_is_read_across_its_rotated_files(log: Path) -> None:
    assert asyncio.run(text_of(log)) == "one\ntwo\noops\npartial\nfive\n"


def test_tail_counts_from_the_end_over_files(log: Path) -> None:
    assert asyncio.run(text_of(log, tail_lines=1)) == "five\n"
    assert asyncio.run(text_of(log, tail_lines=4)) == "oops\npartial\nfive\n"
    assert asyncio.run(text_of(log, tail_lines=0)) == ""
    assert asyncio.run(text_of(log, tail_lines=99)).startswith("one\n")


def test_limits_since_stream_and_time_stamps(log: Path) -> None:
    assert asyncio.run(text_of(log, limit_bytes=6)) == "one\ntw"
    assert asyncio.run(text_of(log, stream="Stderr")) == "oops\n"
    assert asyncio.run(text_of(log, since=1769850485.0)) == "five\n"
    assert asyncio.run(text_of(log, timestamps=True, tail_lines=1)) == "2026-01-31T09:08:05.000000001Z five\n"


def test_following_survives_rotation_and_ends_with_the_container(log: Path) -> None:
    over = False

    async def write(follower: Follower) -> None:
        nonlocal over
        with log.open("a") as file:
            file.write(line(6, "six"))
        for number in (2, 1):
            await asyncio.to_thread(log.with_name(f"0.log.{number}").rename, log.with_name(f"0.log.{number + 1}"))
        await asyncio.to_thread(log.rename, log.with_name("0.log.1"))
        log.write_text(line(7, "seven"))
        await SystemClock().sleep(0.05)
        with log.open("a") as file:
            file.write(line(8, "eight"))
        over = True
        follower.wake()

    async def scenario() -> bytes:
        follower = Follower(log, LogOptions(follow=True, tail_lines=1), lambda: over)
        got = b""
        async with asyncio.TaskGroup() as group:
            async for chunk in follower.run():
                if not got:
                    group.create_task(write(follower))
                got += chunk
        return got

    assert asyncio.run(scenario()) == b"five\nsix\nseven\neight\n"


def test_following_loses_nothing_when_a_log_rotates_faster_than_it_is_read(tmp_path: Path) -> None:
    """A real writer that rotates all the time; the reader looks only now and then, as a slow client lets it."""
    path = tmp_path / "0.log"
    writer = LogWriter(str(path), 200, 1000)
    splitter = LineSplitter(writer, "stdout")
    splitter.feed(b"0\n")
    over = False

    async def scenario() -> bytes:
        nonlocal over
        follower, got, number = Follower(path, LogOptions(follow=True), lambda: over), b"", 1
        async for chunk in follower.run():
            got += chunk
            for _ in range(37 if not over else 0):
                splitter.feed(b"%d\n" % number)
                number += 1
            over = number > 300
            follower.wake()
        return got

    lines = asyncio.run(scenario()).split()
    assert lines == [b"%d" % number for number in range(len(lines))]
    assert len(lines) > 300


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("tailLines=x", BadRequest),
        ("sinceTime=yesterday", BadRequest),
        ("tailLines=-1", Invalid),
        ("limitBytes=0", Invalid),
        ("sinceSeconds=0", Invalid),
        ("sinceSeconds=5&sinceTime=2026-01-31T09:08:05Z", Invalid),
        ("stream=stdout", Invalid),
        ("stream=Stdout&tailLines=1", Invalid),
    ],
)
def test_options_that_make_no_sense_are_refused(query: str, error: type[ApiError]) -> None:
    with pytest.raises(error):
        parse_options(Request("GET", "/", query), 0.0)


def test_options_are_read_from_the_query() -> None:
    query = "follow=true&tail=3&timestamps=1&limitBytes=9&sinceTime=2026-01-31T09:08:05.5Z&previous=true"
    found = parse_options(Request("GET", "/", query), 0.0)
    assert found == LogOptions(True, True, True, 3, 9, 1769850485.5)
    assert parse_options(Request("GET", "/", "tail=all&sinceSeconds=10"), 100.0) == LogOptions(since=90.0)


def test_which_log_is_meant_follows_the_status() -> None:
    last = {"terminated": {"containerID": "tiphys://old", "exitCode": 1}}
    running = {"name": "c", "state": {"running": {}}, "lastState": last, "containerID": "tiphys://new"}
    waiting = {"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": last}
    fresh = {"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}, "lastState": {}}
    assert log_container({"containerStatuses": [running]}, "p", "c", previous=False) == "new"
    assert log_container({"containerStatuses": [running]}, "p", "c", previous=True) == "old"
    assert log_container({"containerStatuses": [waiting]}, "p", "c", previous=False) == "old"
    with pytest.raises(BadRequest, match="is waiting to start: image can't be pulled"):
        log_container({"containerStatuses": [fresh]}, "p", "c", previous=False)
    with pytest.raises(BadRequest, match='previous terminated container "c" in pod "p" not found'):
        log_container({"containerStatuses": [fresh]}, "p", "c", previous=True)
