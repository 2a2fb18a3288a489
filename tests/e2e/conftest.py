"""A real cluster for the end-to-end tests: two nodes, real kubectl, real containers, files of its own.

Everything lives in a temporary directory (TIPHYS_HOME, TIPHYS_RUN, KUBECONFIG), so other clusters of the machine
are not touched. Images are made from Debian's packages once and kept in .cache/images.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.commands import ROOT, Commands


def pytest_configure() -> None:
    """Started in the background by a shell, we and all our children would ignore interrupts; some tests send them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        skip = pytest.mark.skip(reason="real containers need root")
        for item in items:
            if item.get_closest_marker("e2e"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def images() -> list[Path]:
    """busybox.tar and nginx.tar."""
    directory = ROOT / ".cache" / "images"
    files = [directory / "busybox.tar", directory / "nginx.tar"]
    if not all(file.exists() for file in files):
        subprocess.run([sys.executable, str(ROOT / "tools" / "make_images.py"), str(directory)], check=True)
    return files


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """An empty TIPHYS_HOME; whatever clusters a test leaves there are deleted at the end."""
    home = tmp_path_factory.mktemp("home")
    run = Path("/run") / f"tiphys-{home.parent.name}"
    commands = Commands(home, run)
    yield commands
    commands.tiphys("delete", "--all")
    shutil.rmtree(run, ignore_errors=True)


@pytest.fixture(scope="module")
def own_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """As `machine`, for one file of tests alone: what its clusters do to kubectl's context is nobody else's matter."""
    home = tmp_path_factory.mktemp("own")
    run = Path("/run") / f"tiphys-{home.parent.name}-{home.name}"
    commands = Commands(home, run)
    yield commands
    commands.tiphys("delete", "--all")
    shutil.rmtree(run, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(machine: Commands, images: list[Path]) -> Commands:
    """A cluster of two nodes with the examples' images."""
    machine.tiphys("up", "e2e", "--nodes", "2", *(word for file in images for word in ("--image", str(file))))
    return machine
