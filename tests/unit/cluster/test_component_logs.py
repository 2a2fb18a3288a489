from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from tiphys.cluster.logs import LogReader, follow


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "logs" / "node-1.log"
    path.parent.mkdir()
    path.write_text("one\ntwo\nthree\n")
    return path


@pytest.mark.parametrize(("count", "lines"), [(-1, ["one", "two", "three"]), (2, ["two", "three"]), (0, [])])
def test_the_last_lines(log: Path, count: int, lines: list[str]) -> None:
    assert LogReader(log).last(count) == lines


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert LogReader(tmp_path / "none").last(-1) == []


def test_unfinished_lines_wait_for_their_end(log: Path) -> None:
    reader = LogReader(log)
    reader.last(0)
    with log.open("ab") as file:
        file.write(b"fo")
        file.flush()
        assert reader.more() == []
        file.write(b"ur\nfi\xffve\n")
    assert reader.more() == ["four", "fi�ve"]


def test_a_replaced_log_is_read_to_its_end_and_then_the_new_one(log: Path) -> None:
    reader = LogReader(log)
    reader.last(0)
    with log.open("a") as file:
        file.write("last of the old\n")
    log.rename(log.with_name("node-1.log.1"))
    log.write_text("first of the new\n")
    assert reader.more() == ["last of the old", "first of the new"]


def test_a_truncated_log_is_read_from_its_beginning(log: Path) -> None:
    reader = LogReader(log)
    reader.last(0)
    log.write_text("new\n")
    assert reader.more() == ["new"]


def test_following_ends_when_the_directory_goes(log: Path) -> None:
    seen = list[tuple[str, str]]()
    reader = LogReader(log)
    reader.last(1)

    def write(component: str, line: str) -> None:
        seen.append((component, line))
        threading.Thread(target=shutil.rmtree, args=(log.parent,)).start()

    log.open("a").write("four\n")
    follow({"node-1": reader}, log.parent, write)
    assert seen == [("node-1", "four")]
