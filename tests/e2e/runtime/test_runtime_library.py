"""The example of docs/runtime.md, run as it stands there: the runtime without anything of Kubernetes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.archives import archive_of
from tiphys.runtime.cleanup import purge

pytestmark = pytest.mark.e2e

DOCUMENT = Path(__file__).parents[3] / "docs" / "runtime.md"


def example() -> str:
    found = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_documented_example_runs_a_container(busybox: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    archive = archive_of(busybox, tmp_path / "busybox.tar")
    try:
        ran = subprocess.run(
            [sys.executable, "-c", example(), str(tmp_path), str(archive)], capture_output=True, text=True, timeout=60
        )
        assert (ran.stdout.split(), ran.stderr) == (["running", "alone", "137"], "")
        assert (tmp_path / "hello.log").read_text().endswith("stdout F alone\n")
    finally:
        left: list[Any] = purge(tmp_path / "run", "library")
    assert left == []


def test_the_runtime_loads_nothing_of_kubernetes() -> None:
    program = "import sys, tiphys.runtime.linux, tiphys.runtime.images; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    ours = {name.split(".")[1] for name in loaded if name.startswith("tiphys.")}
    assert ours <= {"base", "runtime"}
