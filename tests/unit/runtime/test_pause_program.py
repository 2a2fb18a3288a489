"""The pause program: runs, names itself, ends by SIGTERM, has its children reaped by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tiphys.runtime import pause_program

BECOME = "from tiphys.runtime import pause_program as p; p.become(p.make(), '/run/x')"
ORPHAN = f"import os\nif os.fork() == 0:\n os.read(0, 1)\n os._exit(0)\nos.write(1, b'x')\n{BECOME}"


@pytest.fixture(autouse=True)
def known() -> None:
    if not pause_program.elf(os.uname().machine):
        pytest.skip("no program for this machine: the pause process stays an interpreter")


def started(program: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    while Path(f"/proc/{process.pid}/cmdline").read_bytes() != b"/pause\0":
        assert process.poll() is None
    return process


def test_it_waits_and_ends_by_sigterm() -> None:
    with started(BECOME) as process:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        os.kill(process.pid, signal.SIGTERM)
    assert process.returncode == 0
    assert environment == b"TIPHYS_RUNTIME=/run/x\0"


def test_a_signal_that_is_not_meant_for_it_does_not_end_it() -> None:
    with started(BECOME) as process:
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, signal.SIGCHLD)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        os.kill(process.pid, signal.SIGINT)
    assert process.returncode == 0


def test_the_kernel_reaps_its_children() -> None:
    with started(ORPHAN) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert children.read_text().split()
        assert process.stdin is not None
        process.stdin.close()
        while children.read_text().split():
            pass
        process.kill()


def test_it_is_small_and_has_no_other_files_open() -> None:
    with started(BECOME) as process:
        files = os.listdir(f"/proc/{process.pid}/fd")
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        process.kill()
    assert sorted(files) == ["0", "1", "2"]
    used = {line.split(":")[0]: line.split()[1] for line in rollup.splitlines()[1:]}
    assert int(used["Private_Dirty"]) < 64


def test_an_unknown_machine_has_none() -> None:
    assert pause_program.elf("pdp11") == b""
