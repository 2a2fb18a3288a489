"""What a kubelet loads before anybody plugs in."""

from __future__ import annotations

import subprocess
import sys


def test_grpc_and_oci_are_not_loaded_before_they_are_needed() -> None:
    program = "import sys, tiphys.kubelet.app, tiphys.runtime.linux; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"grpclib", "h2", "hpack", "multidict", "tiphys.runtime.cri.client", "tiphys.runtime.oci"} & set(loaded)
