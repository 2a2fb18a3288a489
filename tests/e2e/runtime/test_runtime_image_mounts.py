"""Images as volumes: all of one or a part of it, read-only, and nothing but what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.inventory import images_in_use
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import Mount, RuntimeFailure

pytestmark = pytest.mark.e2e

DATA = "sha256:" + "d" * 64


@pytest.fixture
def data(machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lower layer of an image of two."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "deep/part").mkdir(parents=True)
    (lower / "deep/part/file").write_text("lower")
    (lower / "deep/hidden").write_text("x")
    (lower / "out").symlink_to("/etc")
    (upper / "deep").mkdir(parents=True)
    (upper / "deep/added").write_text("upper")
    (upper / "program").write_text("#!/bin/sh\necho ran\n")
    (upper / "program").chmod(0o755)
    own = machine.images.layers
    monkeypatch.setattr(machine.images, "layers", lambda id: (upper, lower) if id == DATA else own(id))
    return lower


def test_layers_are_seen_as_one_and_cannot_be_written(machine: Any, data: Path) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        mounts = (
            Mount("/v", image=DATA),
            Mount("/part", "deep/part", image=DATA),
            Mount("/file", "deep/added", image=DATA),
        )
        script = (
            "exec 2>&1; cat /v/deep/added /part/file /file; /v/program; touch /v/x /part/x; echo x > /file; ls /v/deep"
        )
        said = await machine.output(runtime, "sh", "-c", script, mounts=mounts)
        assert said.splitlines()[0] == "upperlowerupperran"
        assert said.count("Read-only file system") == 3
        assert said.splitlines()[-3:] == ["added", "hidden", "part"]
        assert images_in_use(machine.root) == set()

    machine.run(scenario)
    assert not (data / "x").exists()


def test_a_link_of_an_image_leads_nowhere_else(machine: Any, data: Path) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        for part in ("out/passwd", "../../etc/passwd", "none", "program/x"):
            with pytest.raises(RuntimeFailure, match=r"^ImageVolumeMountFailed: .*no such file or directory"):
                await machine.start(runtime, "true", mounts=(Mount("/v", part, image=DATA),))
        assert not await runtime.containers()

    machine.run(scenario)


def test_an_image_that_a_container_mounts_is_in_use(machine: Any, data: Path) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000", mounts=(Mount("/v", image=DATA),))
        assert DATA in images_in_use(machine.root)
        await runtime.remove_container("main")
        assert DATA not in images_in_use(machine.root)

    machine.run(scenario)
