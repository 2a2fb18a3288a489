"""The log of a container: rotated at its size, never in the way of the container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiphys.runtime.logs import MAX_PART, LineSplitter, LogWriter


def contents(path: Path) -> list[str]:
    """What is in the log, oldest first, without time stamps."""
    names = sorted(path.parent.glob("0.log.*"), key=lambda one: -int(one.suffix[1:]))
    lines = [line for file in (*names, path) if file.exists() for line in file.read_text().splitlines()]
    return [line.split(" ", 1)[1] for line in lines]


def test_so_many_files_are_kept_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "pod" / "0.log"
    writer = LogWriter(str(path), 100, 3)
    splitter = LineSplitter(writer, "stdout")
    for number in range(50):
        splitter.feed(b"%d\n" % number)
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["0.log", "0.log.1", "0.log.2"]
    kept = contents(path)
    assert kept == [f"stdout F {number}" for number in range(50 - len(kept), 50)]


def test_a_log_of_one_file_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    splitter = LineSplitter(LogWriter(str(path), 100, 1), "stdout")
    for number in range(10):
        splitter.feed(b"%d\n" % number)
    assert [file.name for file in tmp_path.iterdir()] == ["0.log"]
    assert contents(path)[-1] == "stdout F 9"
    assert len(contents(path)) < 5


def test_when_no_new_file_can_be_made_the_old_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "0.log"
    writer = LogWriter(str(path), 100, 3)
    splitter = LineSplitter(writer, "stdout")
    real = os.open

    def refuse(*arguments: object, **named: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", refuse)
    for number in range(20):
        splitter.feed(b"%d\n" % number)
    assert writer.error == "No space left on device"
    monkeypatch.setattr(os, "open", real)
    for number in range(20, 23):
        splitter.feed(b"%d\n" % number)
    assert contents(path) == [f"stdout F {number}" for number in range(23)]


def test_reopening_where_there_is_no_directory_any_more_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pod" / "0.log"
    writer = LogWriter(str(path), 1000, 3)
    path.unlink()
    path.parent.rmdir()
    writer.reopen()
    assert writer.error == "No such file or directory"
    LineSplitter(writer, "stdout").feed(b"goes nowhere\n")
    path.parent.mkdir()
    writer.reopen()
    LineSplitter(writer, "stdout").feed(b"back\n")
    assert contents(path) == ["stdout F back"]


def test_a_huge_line_is_cut_into_parts_that_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    splitter = LineSplitter(LogWriter(str(path), 1 << 20, 3), "stderr")
    line = b"x" * (MAX_PART * 2 + 5)
    for start in range(0, len(line), 7000):
        splitter.feed(line[start : start + 7000])
    splitter.feed(b"\n")
    parts = contents(path)
    assert [part.split(" ")[1] for part in parts] == ["P", "P", "F"]
    assert "".join(part.split(" ")[2] for part in parts) == line.decode()
