"""/version: what clients negotiate features by. Tiphys serves the API of Kubernetes 1.36."""

from __future__ import annotations

import platform
import sys

from tiphys import __version__

GIT_VERSION = "v1.36.0"
MAJOR, MINOR = "1", "36"


def version_info() -> dict[str, str]:
    """version.Info as upstream fills it; `compiler` tells which implementation it is."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": str(int(MINOR) - 1),
        "gitVersion": f"{GIT_VERSION}+tiphys.{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": f"cpython {platform.python_version()}",
        "platform": f"{sys.platform}/{machine}",
    }
