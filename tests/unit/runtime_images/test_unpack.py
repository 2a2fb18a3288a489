"""Layers onto disk: what overlayfs needs is there, and nothing a layer contains gets out of its directory."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.images.unpack import unpack
from tiphys.runtime.types import InvalidSpec, RuntimeFailure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices, trusted attributes")
OPAQUE = "trusted.overlay.opaque"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("precious")
    (tmp_path / "layer").mkdir()
    return tmp_path / "layer"


def put(kit: Any, target: Path, *entries: Any) -> None:
    unpack(io.BytesIO(kit.tar(*entries)), target)


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def test_owners_modes_times_and_attributes_are_kept(kit: Any, target: Path) -> None:
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + b"\0" * 12
    headers = {
        "SCHILY.xattr.user.note": "hello",
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
    }
    put(
        kit,
        target,
        kit.entry("d", kind=tarfile.DIRTYPE, mode=0o1777, uid=5, gid=6, mtime=1_000_000_000),
        kit.entry("d/f", b"x" * 3_000_000, mode=0o4755, uid=1, gid=2, mtime=1_100_000_000.5, pax_headers=headers),
        kit.entry("d/link", kind=tarfile.SYMTYPE, linkname="/anywhere", uid=3),
        kit.entry("d/hard", kind=tarfile.LNKTYPE, linkname="d/f"),
        kit.entry("d/fifo", kind=tarfile.FIFOTYPE),
    )
    directory, file = (target / "d").stat(), (target / "d/f").stat()
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid, directory.st_mtime) == (0o1777, 5, 1_000_000_000)
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid) == (0o4755, 1, 2)
    assert (file.st_mtime, file.st_size, file.st_nlink) == (1_100_000_000.5, 3_000_000, 2)
    assert os.getxattr(target / "d/f", "security.capability") == capability
    assert OPAQUE not in os.listxattr(target / "d/f")
    assert "trusted.overlay.redirect" not in os.listxattr(target / "d/f")
    assert (target / "d/link").readlink() == Path("/anywhere")
    assert (target / "d/link").lstat().st_uid == 3
    assert (target / "d/fifo").is_fifo()


def test_directories_without_an_entry_can_be_entered_whatever_the_umask(kit: Any, target: Path) -> None:
    before = os.umask(0o077)
    try:
        put(kit, target, kit.entry("a/b/c", b"x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((target / "a/b").stat().st_mode) == 0o755
    assert (target / "a/b/c").read_bytes() == b"x"


def test_whiteouts_take_overlayfs_form(kit: Any, target: Path) -> None:
    put(
        kit,
        target,
        kit.entry(".wh.gone"),
        kit.entry("dir/.wh..wh..opq"),
        kit.entry("dir/kept", b"x"),
        kit.entry("other/.wh.gone"),
    )
    assert is_whiteout(target / "gone")
    assert is_whiteout(target / "other/gone")
    assert os.getxattr(target / "dir", OPAQUE) == b"y"
    assert (target / "dir/kept").exists()


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_what_a_layer_deletes_and_makes_again_hides_the_old_one(kit: Any, target: Path, whiteout_first: bool) -> None:
    made = [kit.entry("d", kind=tarfile.DIRTYPE), kit.entry("d/new", b"x"), kit.entry("f", b"new")]
    deleted = [kit.entry(".wh.d"), kit.entry(".wh.f")]
    put(kit, target, *(deleted + made if whiteout_first else made + deleted))
    assert os.getxattr(target / "d", OPAQUE) == b"y"
    assert (target / "d/new").read_bytes() == b"x"
    assert (target / "f").read_bytes() == b"new"


def test_a_whiteout_is_replaced_by_an_implied_directory(kit: Any, target: Path) -> None:
    put(kit, target, kit.entry(".wh.d"), kit.entry("d/e/f", b"x"))
    assert os.getxattr(target / "d", OPAQUE) == b"y"
    assert (target / "d/e/f").read_bytes() == b"x"


def test_later_entries_replace_earlier_ones(kit: Any, target: Path) -> None:
    put(
        kit,
        target,
        kit.entry("a", b"file"),
        kit.entry("a", kind=tarfile.DIRTYPE),
        kit.entry("a/b", b"x"),
        kit.entry("a", b"file again"),
        kit.entry("l", kind=tarfile.SYMTYPE, linkname="a"),
        kit.entry("l", b"not through the link"),
    )
    assert (target / "a").read_bytes() == b"file again"
    assert (target / "l").read_bytes() == b"not through the link"


def outside(target: Path) -> list[str]:
    """What is beside the layer's directory now."""
    found = target.parent
    return sorted(str(path.relative_to(found)) for path in found.rglob("*") if not path.is_relative_to(target))


def escape(kit: Any, *pairs: tuple[str, dict[str, Any]]) -> list[Any]:
    return [kit.entry(name, b"evil", **options) if "kind" not in options else kit.entry(name, **options)
            for name, options in pairs]  # fmt: skip


SYMLINK = {"kind": tarfile.SYMTYPE}
ESCAPES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "dot dot": [("../outside/file", {})],
    "dot dot inside": [("a/../../outside/file", {})],
    "absolute": [("/{outside}/file", {})],
    "through an absolute symlink": [("l", {**SYMLINK, "linkname": "{outside}"}), ("l/file", {}), ("l/new", {})],
    "through a relative symlink": [("l", {**SYMLINK, "linkname": "../outside"}), ("l/file", {}), ("l/new", {})],
    "through a chain": [
        ("a/b", {**SYMLINK, "linkname": "../.."}),
        ("c", {**SYMLINK, "linkname": "a/b/outside"}),
        ("c/file", {}),
    ],
    "over a symlink": [("l", {**SYMLINK, "linkname": "{outside}/file"}), ("l", {})],
    "hard link outside": [("h", {"kind": tarfile.LNKTYPE, "linkname": "{outside}/file"}), ("h", {})],
    "hard link upwards": [("h", {"kind": tarfile.LNKTYPE, "linkname": "../outside/file"})],
    "hard link through a symlink": [
        ("l", {**SYMLINK, "linkname": "{outside}"}),
        ("h", {"kind": tarfile.LNKTYPE, "linkname": "l/file"}),
    ],
    "hard link to a symlink": [
        ("l", {**SYMLINK, "linkname": "{outside}/file"}),
        ("h", {"kind": tarfile.LNKTYPE, "linkname": "l"}),
        ("h", {}),
    ],
    "whiteout upwards": [("../outside/.wh.file", {})],
    "whiteout through a symlink": [("l", {**SYMLINK, "linkname": "{outside}"}), ("l/.wh.file", {})],
    "opaque through a symlink": [("l", {**SYMLINK, "linkname": "{outside}"}), ("l/.wh..wh..opq", {})],
    "whiteout of dot dot": [("a/.wh...", {})],
    "whiteout of dot": [("a/.wh..", {})],
    "directory over a symlink": [
        ("l", {**SYMLINK, "linkname": "{outside}"}),
        ("l", {"kind": tarfile.DIRTYPE, "mode": 0o777}),
        ("l/new", {}),
    ],
    "mode through a symlink": [("l", {**SYMLINK, "linkname": "{outside}/file", "mode": 0o777, "uid": 99})],
    "procfs": [("l", {**SYMLINK, "linkname": "/proc/self/cwd"}), ("l/new-by-test", {})],
    "the directory itself": [(".", {**SYMLINK, "linkname": "{outside}"}), ("x", {})],
}


@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_gets_out(kit: Any, target: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(target.parent / "outside")
    place = str(target.parent / "outside")
    entries = []
    for path, options in ESCAPES[name]:
        filled = {
            key: value.format(outside=place) if isinstance(value, str) else value for key, value in options.items()
        }
        content = b"" if "kind" in filled else b"evil"
        entries.append(kit.entry(path.replace("{outside}", place), content, **filled))
    before = (target.parent / "outside").stat(), (target.parent / "outside/file").stat()
    with suppress(InvalidSpec, RuntimeFailure):
        put(kit, target, *entries)
    after = (target.parent / "outside").stat(), (target.parent / "outside/file").stat()
    assert outside(target) == ["outside", "outside/file"]
    assert (target.parent / "outside/file").read_text() == "precious"
    assert before == after
    assert OPAQUE not in os.listxattr(target.parent / "outside")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x" * 300, {}),
        ("/".join(["d"] * 1500), {}),
        ("f", {"pax_headers": {"mtime": "nan"}}),
        ("f", {"pax_headers": {"mtime": "1e300"}}),
        ("f", {"pax_headers": {"uid": str(2**70)}}),
        ("f", {"kind": tarfile.SYMTYPE, "linkname": "x" * 5000}),
        ("f", {"kind": tarfile.LNKTYPE, "linkname": "absent"}),
        ("f", {"kind": tarfile.LNKTYPE, "linkname": "."}),
    ],
)
def test_impossible_entries_are_refused(kit: Any, target: Path, name: str, options: dict[str, Any]) -> None:
    with pytest.raises((InvalidSpec, RuntimeFailure)):
        put(kit, target, kit.entry(name, **options))


def test_devices_are_left_out(kit: Any, target: Path) -> None:
    put(
        kit,
        target,
        kit.entry("sda", kind=tarfile.BLKTYPE, devmajor=8, devminor=0),
        kit.entry("mem", kind=tarfile.CHRTYPE, devmajor=1, devminor=1),
    )
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("data", [b"nonsense" * 1000, b"\x1f\x8b broken"])
def test_garbage_is_refused(target: Path, data: bytes) -> None:
    with pytest.raises(InvalidSpec):
        unpack(io.BytesIO(data), target)


def test_a_truncated_tar_is_refused(kit: Any, target: Path) -> None:
    whole = kit.tar(kit.entry("a", b"x" * 100_000))
    with pytest.raises(InvalidSpec):
        unpack(io.BytesIO(whole[:50_000]), target)
