"""Files of the runtime that a crash has left in pieces."""

from __future__ import annotations

import json
import os
import signal
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tiphys.runtime import recovery, shim
from tiphys.runtime.ipam import AddressPool

NONSENSE = (b"", b"{", b"[]", b"null", b'{"last": 1, "owners": {}}', b'{"last": "", "owners": []}', b"\xff")


@pytest.mark.parametrize("content", NONSENSE)
def test_a_damaged_book_of_addresses_is_begun_afresh(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "addresses.json").write_bytes(content)
    pool = AddressPool(IPv4Network("10.9.0.0/29"), tmp_path)
    assert pool.allocate("a") == "10.9.0.2"
    assert pool.owners() == {"a": "10.9.0.2"}


@pytest.mark.parametrize("content", [b'{"state": "odd"}', b'{"state": "exited", "pid": "x"}', b'{"state": []}'])
def test_a_state_that_makes_no_sense_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    assert recovery.state(tmp_path) is None


def test_a_shorter_state_over_a_longer_one_is_whole(tmp_path: Path) -> None:
    shim.write_state(str(tmp_path), {"state": "running", "error": "x" * 500})
    shim._write(str(tmp_path / "state.json"), b'{"state": "exited"}', 0, durable=False)
    assert json.loads((tmp_path / "state.json").read_text()) == {"state": "exited"}


def test_the_holder_of_a_lock_is_told(tmp_path: Path) -> None:
    assert recovery.shim_of(tmp_path) == 0
    (tmp_path / "shim.lock").touch()
    assert recovery.shim_of(tmp_path) == 0
    child = os.fork()
    if child == 0:
        shim._only_one(str(tmp_path))
        signal.pause()
    while recovery.shim_of(tmp_path) == 0:
        pass
    assert recovery.shim_of(tmp_path) == child
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert recovery.shim_of(tmp_path) == 0
