from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tiphys.base.errors import Permanent
from tiphys.cluster import processes

HOLD = "import sys,pathlib; from tiphys.cluster import processes as p; p.hold(pathlib.Path(sys.argv[1])); "


def holder(lock: Path, then: str = "print('held', flush=True); sys.stdin.read()") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD + then, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_nobody_holds_a_lock_that_was_never_taken(tmp_path: Path) -> None:
    assert processes.pid_of(tmp_path / "a.lock") == 0
    assert processes.stop(tmp_path / "a.lock", 1) is False


def test_the_kernel_tells_who_holds_a_lock_until_they_die(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    process = holder(lock)
    assert processes.pid_of(lock) == process.pid
    with pytest.raises(processes.AlreadyRunning, match=str(process.pid)):
        processes.hold(lock)
    process.kill()
    process.wait()
    assert processes.pid_of(lock) == 0


def test_stop_kills_what_ignores_being_asked(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    stubborn = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('held', flush=True); sys.stdin.read()"
    )
    process = holder(lock, stubborn)
    assert processes.stop(lock, 0.05) is True
    assert process.wait() == -9


def test_a_child_that_ends_before_it_is_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    child = processes.start("odd", ["no-such-verb"], tmp_path / "odd.lock", tmp_path / "odd.log")
    with pytest.raises(Permanent, match="odd stopped with exit code 2"):
        processes.wait_ready([child], "other", 30, lambda name: None)


def test_who_did_not_start_a_process_can_wait_until_it_is_ready(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    then = (
        "print('held', flush=True); sys.stdin.readline(); p.announce_ready(pathlib.Path(sys.argv[1])); sys.stdin.read()"
    )
    process = holder(lock, then)
    with pytest.raises(Permanent, match="runs, but is not ready"):
        processes.wait_started(lock, 0.05)
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert processes.wait_started(lock, 30) is True
    assert processes.pid_of(lock) == process.pid
    process.kill()
    process.wait()
    assert processes.wait_started(lock, 30) is False


def test_a_child_s_own_words_are_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "odd.log"
    log.write_text("tiphys: what an earlier one said\n")
    words = ["run", "control-plane", "--name", "nobody"]
    child = processes.start("control-plane", words, tmp_path / "odd.lock", log)
    with pytest.raises(
        Permanent, match=r"^control-plane stopped with exit code 1: no cluster 'nobody'.*\(log: .*odd.log\)$"
    ):
        processes.wait_ready([child], "other", 30, lambda name: None)
