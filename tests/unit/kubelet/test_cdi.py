"""CDI devices: spec files found, edits made, what cannot be said."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tiphys.kubelet.plugins.cdi import CdiError, apply, find
from tiphys.runtime.types import ContainerSpec, Device, Mount

SPEC = ContainerSpec("i", "s", "sha256:0", ("x",), env=(("A", "1"), ("B", "2")), supplemental_groups=(5,))


def write(directory: Path, name: str, devices: dict[str, Any], edits: dict[str, Any] | None = None) -> None:
    directory.mkdir(exist_ok=True)
    entries = [{"name": one, "containerEdits": own} for one, own in devices.items()]
    content = {"cdiVersion": "0.6.0", "kind": "example.com/gpu", "devices": entries, "containerEdits": edits or {}}
    (directory / name).write_text(json.dumps(content))


def test_edits_of_the_spec_come_once_and_those_of_each_device(tmp_path: Path) -> None:
    one, two = {"env": ["A=3"]}, {"mounts": [{"hostPath": "/h", "containerPath": "/c", "options": ["ro", "rbind"]}]}
    write(tmp_path, "a.yaml", {"one": one, "two": two}, {"env": ["C=4"], "additionalGids": [5, 6]})
    made = apply(SPEC, find(["example.com/gpu=one", "example.com/gpu=two"], [tmp_path]), tmp_path / "d")
    assert dict(made.env) == {"A": "3", "B": "2", "C": "4"}
    assert made.mounts == (Mount("/c", "/h", readonly=True),)
    assert made.supplemental_groups == (5, 6)


def test_device_nodes_are_the_hosts_or_are_made(tmp_path: Path) -> None:
    nodes = [{"path": "/dev/x", "hostPath": "/dev/null"}, {"path": "/dev/y", "type": "c", "major": 1, "minor": 3}]
    write(tmp_path, "a.json", {"one": {"deviceNodes": nodes}})
    first, second = apply(SPEC, find(["example.com/gpu=one"], [tmp_path]), tmp_path / "d").devices
    assert first == Device("/dev/null", "/dev/x", "rwm")
    if os.geteuid() == 0:
        facts = os.stat(second.source)
        assert stat.S_ISCHR(facts.st_mode)
        assert facts.st_rdev == os.makedev(1, 3)


def test_later_directories_win_and_files_that_are_no_specs_are_passed_over(tmp_path: Path) -> None:
    early, late = tmp_path / "etc", tmp_path / "run"
    write(early, "a.json", {"one": {"env": ["WHERE=etc"]}})
    write(late, "b.json", {"one": {"env": ["WHERE=run"]}})
    for name, text in (("c.json", "{"), ("d.json", "[]"), ("e.yaml", "a: [")):
        (late / name).write_text(text)
    assert find(["example.com/gpu=one"], [early, late, tmp_path / "none"]).env == ["WHERE=run"]


def test_unknown_devices_and_hooks_are_refused_aloud(tmp_path: Path) -> None:
    write(tmp_path, "a.json", {"one": {"hooks": [{"hookName": "createContainer", "path": "/bin/x"}]}})
    with pytest.raises(CdiError, match=r"unresolvable CDI devices example\.com/gpu=none"):
        find(["example.com/gpu=one", "example.com/gpu=none"], [tmp_path])
    with pytest.raises(CdiError, match="OCI hooks are not supported by this runtime: createContainer"):
        apply(SPEC, find(["example.com/gpu=one"], [tmp_path]), tmp_path)
