"""Bad requests by the hundred: none is the server's fault, none hangs (`bench/fuzz.py` sends as many as one likes)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
SCRIPT = Path(__file__).parents[2] / "bench" / "fuzz.py"


@pytest.mark.parametrize("seed", ["11", "12"])
def test_bad_requests_are_refused_not_failed(seed: str) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "1500", seed], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "0 of 1500 requests failed" in done.stdout
