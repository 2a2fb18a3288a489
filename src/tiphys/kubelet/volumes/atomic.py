"""Files of a volume that change together: written to a fresh directory, then shown by one rename.

    VOLUME/..2026_01_31_09_08_07.123456789/key   the files
    VOLUME/..data -> ..2026_01_31_...            what is current, replaced atomically
    VOLUME/key -> ..data/key                     what readers open

The layout is the one that programs in pods watch for.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from tiphys.base.clock import utc
from tiphys.kubelet.volumes.ownership import give_to_group
from tiphys.kubelet.volumes.payload import File, Payload

DATA = "..data"


def write_payload(root: Path, payload: Payload, now: float, group: int | None = None) -> bool:
    """Make `root` show exactly `payload`; returns whether anything changed. `group` is a GID for all that is there.

    Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    current = _current(root)
    if current is not None and _read(current) == {path: file.data for path, file in payload.items()}:
        _link_all(root, payload)
        return False
    fresh = _fresh_directory(root, now)
    for path, file in payload.items():
        _write(fresh, path, file)
    if group is not None:
        give_to_group(root, group, always=True, readonly=True)
    draft = root / "..data_tmp"
    with suppress(FileNotFoundError):
        draft.unlink()
    draft.symlink_to(fresh.name)
    draft.rename(root / DATA)
    _link_all(root, payload)
    _remove_stale(root, payload, fresh.name)
    return True


def _current(root: Path) -> Path | None:
    link = root / DATA
    return root / os.readlink(link) if link.is_symlink() else None


def _read(directory: Path) -> dict[str, bytes]:
    found = {}
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(directory))] = path.read_bytes()
    return found


def _fresh_directory(root: Path, now: float) -> Path:
    stamp = utc(now).strftime("..%Y_%m_%d_%H_%M_%S")
    number = int(now % 1 * 1e9)
    while True:
        path = root / f"{stamp}.{number:09d}"
        try:
            path.mkdir(mode=0o755)
        except FileExistsError:
            number += 1
            continue
        path.chmod(0o755)
        return path


def _write(root: Path, relative: str, file: File) -> None:
    path = root
    for part in relative.split("/")[:-1]:
        path /= part
        if not path.exists():
            path.mkdir()
            path.chmod(0o755)  # whatever the umask: containers' users must get through
    path = root / relative
    path.write_bytes(file.data)
    if file.owner is not None:
        os.chown(path, file.owner, -1)
    path.chmod(file.mode)


def _tops(payload: Payload) -> set[str]:
    return {path.split("/", 1)[0] for path in payload}


def _link_all(root: Path, payload: Payload) -> None:
    for top in _tops(payload):
        link = root / top
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{top}")


def _remove_stale(root: Path, payload: Payload, current: str) -> None:
    keep = _tops(payload) | {DATA, current}
    for entry in root.iterdir():
        if entry.name in keep:
            continue
        if entry.is_symlink():
            if os.readlink(entry).startswith(f"{DATA}/"):
                entry.unlink()
        elif entry.name.startswith(".."):
            shutil.rmtree(entry, ignore_errors=True)
