"""What lies on disk: unpacked layers, configurations, and one small database of names.

    ROOT/layers/HEX/          a layer by the sha256 of its uncompressed tar, exactly as overlayfs reads it
    ROOT/configs/HEX.json     an image's configuration; HEX is the image's ID
    ROOT/images.json          {"tags": {reference: ID}, "digests": {reference: ID}, "pinned": [reference]}
    ROOT/adding               held (shared) while layers are added that no name leads to yet
    ROOT/lock                 held while images.json changes, by whichever process changes it

A layer appears whole or not at all: it is unpacked beside its place, synced, renamed. What a killed process left
half done carries its pid and is removed by the next one that adds something.
"""

from __future__ import annotations

import ctypes
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from tiphys.base.files import write_atomic
from tiphys.runtime.images import unpack, zstd
from tiphys.runtime.types import InvalidSpec, RuntimeFailure

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
MAX_CONFIG = 4 << 20
"""Bytes of a configuration or manifest that are read at most."""


@dataclass(slots=True)
class Names:
    """The database."""

    tags: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each layer's files, by its hex digest."""

    def images(self) -> set[str]:
        return set(self.tags.values()) | set(self.digests.values())


def destroy(root: Path) -> None:
    """Remove a content store that nobody uses; what else is in the directory stays, and then so does that."""
    for directory in (root / "layers", root / "configs", root / "image_manager"):
        shutil.rmtree(directory, ignore_errors=True)
    for name in ("images.json", "lock", "adding"):
        (root / name).unlink(missing_ok=True)
    with suppress(OSError):
        root.rmdir()


class Content:
    """Blocking calls: use it from a thread. Any number of processes may share `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for directory in (root, root / "layers", root / "configs"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def root(self) -> Path:
        return self._root

    def stamp(self) -> tuple[int, int]:
        """Differs after each change of the database."""
        try:
            facts = (self._root / "images.json").stat()
        except FileNotFoundError:
            return 0, 0
        return facts.st_ino, facts.st_mtime_ns

    def names(self) -> Names:
        """The database as it is now. Raises RuntimeFailure when it is damaged: nothing is made of what was in it."""
        try:
            value = json.loads((self._root / "images.json").read_bytes())
            return Names(value["tags"], value["digests"], set(value["pinned"]), value["sizes"])
        except FileNotFoundError:
            return Names()
        except (ValueError, TypeError, KeyError) as error:
            raise RuntimeFailure(f"the image database {self._root / 'images.json'} is damaged: {error!r}") from error

    @contextmanager
    def changing(self) -> Iterator[Names]:
        """Change the database: nobody else does meanwhile, and it is written at the end."""
        with open(self._root / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            names = self.names()
            yield names
            value = {
                "tags": names.tags,
                "digests": names.digests,
                "pinned": sorted(names.pinned),
                "sizes": names.sizes,
            }
            write_atomic(self._root / "images.json", json.dumps(value, indent=1).encode())

    @contextmanager
    def adding(self) -> Iterator[None]:
        """While it is held no process collects: what is added has no name yet."""
        with open(self._root / "adding", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def config(self, image: str) -> dict[str, Any] | None:
        """The configuration of an image ID."""
        try:
            value: dict[str, Any] = json.loads(self._config_file(image).read_bytes())
        except FileNotFoundError:
            return None
        return value

    def add_config(self, data: bytes) -> str:
        """Keep a configuration; returns the image ID that it makes. Raises InvalidSpec."""
        try:
            value = json.loads(data)
        except ValueError as error:
            raise InvalidSpec(f"the image's configuration is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise InvalidSpec("the image's configuration is not an object")
        image = f"sha256:{hashlib.sha256(data).hexdigest()}"
        write_atomic(self._config_file(image), data)
        return image

    def layer(self, diff_id: str) -> Path:
        return self._root / "layers" / _hex(diff_id)

    def has_layer(self, diff_id: str) -> bool:
        return self.layer(diff_id).is_dir()

    def add_layer(self, diff_id: str, source: IO[bytes]) -> int:
        """Unpack a layer (compressed or not) and check that it is `diff_id`; returns its size in bytes.

        Harmless if it is there. Raises InvalidSpec if the content is something else.
        """
        self._remove_leftovers()
        target = self.layer(diff_id)
        draft = self._draft()
        draft.mkdir()
        draft.chmod(0o755)  # whatever the umask: it is the root directory of containers
        try:
            reader = Hashing(decompress(source))
            size = unpack.unpack(cast("IO[bytes]", reader), draft)  # only read() is used
            reader.drain()
            if reader.digest != diff_id:
                raise InvalidSpec(f"layer {diff_id} has the content of {reader.digest}")
            _sync_filesystem(draft)
            try:
                draft.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
        finally:
            _remove_tree(draft)
        return size

    def add_layer_file(self, diff_id: str, file: Path) -> int:
        """`add_layer` from a downloaded file."""
        with open(file, "rb") as source:
            return self.add_layer(diff_id, source)

    @contextmanager
    def download_file(self) -> Iterator[Path]:
        """A new file for a download, gone afterwards, or when the next process comes after this one was killed."""
        file = self._draft()
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)

    def _draft(self) -> Path:
        return self._root / "layers" / f".{os.getpid()}-{os.urandom(4).hex()}"

    def collect(self, names: Names) -> None:
        """Remove configurations and layers that no name leads to. Only while `changing`.

        Left for the next time while someone adds."""
        with open(self._root / "adding", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._collect(names)

    def _collect(self, names: Names) -> None:
        needed = set()
        for image in names.images():
            config = self.config(image)
            if config is not None:
                needed |= {_hex(diff_id) for diff_id in diff_ids(config)}
        wanted = {_hex(image) for image in names.images()}
        for file in (self._root / "configs").glob("*.json"):
            if file.stem not in wanted:
                file.unlink(missing_ok=True)
        for directory in (self._root / "layers").iterdir():
            if not directory.name.startswith(".") and directory.name not in needed:
                doomed = directory.with_name(f".{os.getpid()}-{directory.name}")
                directory.rename(doomed)
                _remove_tree(doomed)
                names.sizes.pop(directory.name, None)

    def _config_file(self, image: str) -> Path:
        return self._root / "configs" / f"{_hex(image)}.json"

    def _remove_leftovers(self) -> None:
        for entry in (self._root / "layers").glob(".*"):
            pid = entry.name[1:].partition("-")[0]
            if not Path(f"/proc/{pid}").exists():
                _remove_tree(entry)


class Hashing:
    """A reader that knows the sha256 of what was read. Raises InvalidSpec for what cannot be uncompressed."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._source.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
            raise InvalidSpec(f"a layer cannot be read: {error}") from error
        self._hash.update(data)
        return data

    def drain(self) -> None:
        """Read to the end: padding after a tar's end counts for its digest."""
        while self.read(1 << 20):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def decompress(source: IO[bytes]) -> IO[bytes]:
    """`source` uncompressed, told by its first bytes. Raises InvalidSpec for zstd where nothing can read it."""
    peeked = Peeked(source)
    if peeked.head.startswith(GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=cast("IO[bytes]", peeked)))
    if peeked.head.startswith(ZSTD):
        return zstd.opener()(peeked)
    return cast("IO[bytes]", peeked)


class Peeked:
    """A stream whose first bytes were looked at."""

    def __init__(self, source: IO[bytes]) -> None:
        self.head = source.read(4)
        self._left = self.head
        self._source = source

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            return self._source.read(size)
        if size < 0:
            data, self._left = self._left + self._source.read(), b""
        else:
            data, self._left = self._left[:size], self._left[size:]
        return data


def diff_ids(config: dict[str, Any]) -> list[str]:
    """The layers of an image, lowest first. Raises InvalidSpec for a configuration without them."""
    try:
        found = config["rootfs"]["diff_ids"]
        return [f"sha256:{_hex(diff_id)}" for diff_id in found]
    except (KeyError, TypeError) as error:
        raise InvalidSpec("the image's configuration has no rootfs.diff_ids") from error


def _hex(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise InvalidSpec(f"{digest!r} is not a sha256 digest")
    return value


def _remove_tree(directory: Path) -> None:
    """By rm(1): a hostile layer can be deeper than Python's recursion goes."""
    if directory.exists():
        subprocess.run(["rm", "-rf", "--", directory], check=False)


def _sync_filesystem(directory: Path) -> None:
    """syncfs(2): everything just unpacked is on the medium before the rename says so."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):
            code = ctypes.get_errno()
            raise RuntimeFailure(f"{directory}: cannot be made durable: {os.strerror(code)}")
    finally:
        os.close(handle)
