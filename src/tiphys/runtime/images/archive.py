"""Read images from tar files: docker-archive (`docker save`) and OCI image layouts.

A file may be both (newer `docker save`): manifest.json is read first, because it has the names.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tiphys.runtime.images.content import MAX_CONFIG
from tiphys.runtime.images.platform import choose, fits
from tiphys.runtime.images.reference import Reference, parse
from tiphys.runtime.types import InvalidSpec

MAX_LINKS = 8


@dataclass(frozen=True, slots=True)
class Archived:
    """One image of an archive: its configuration's bytes and the members that are its layers, lowest first."""

    config: bytes
    layers: tuple[str, ...]
    tags: tuple[Reference, ...]
    digest: str = ""
    """The manifest's, where the archive has manifests."""


class Archive:
    """An open tar file; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._tar = tarfile.open(path, "r:*")  # noqa: SIM115 - closed by __exit__
            self._members = {_plain(member.name): member for member in self._tar}
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else _first_line(error)
            raise InvalidSpec(f"{path}: not an image archive: {reason}") from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self._tar.close()

    def images(self) -> list[Archived]:
        """Raises InvalidSpec for an archive of neither kind."""
        try:
            if "manifest.json" in self._members:
                return list(self._docker())
            if "index.json" in self._members:
                return list(self._oci())
        except (KeyError, TypeError, AttributeError, ValueError, tarfile.TarError, EOFError, zlib.error) as error:
            raise InvalidSpec(f"{self._path}: malformed image archive: {error!r}") from error
        raise InvalidSpec(f"{self._path}: neither a docker-archive (manifest.json) nor an OCI layout (index.json)")

    def open(self, name: str) -> IO[bytes]:
        """A member's content; links inside the archive are followed."""
        found = _plain(name)
        for _ in range(MAX_LINKS):
            member = self._members.get(found)
            if member is None:
                raise InvalidSpec(f"{self._path}: {name} is missing")
            if member.issym():
                found = _plain(str(Path(found).parent / member.linkname))
                continue
            source = self._tar.extractfile(member)
            if source is None:
                raise InvalidSpec(f"{self._path}: {name} is not a file")
            return source
        raise InvalidSpec(f"{self._path}: {name} is a link to a link to a link")

    def _docker(self) -> Iterator[Archived]:
        for entry in self._json("manifest.json"):
            tags = tuple(parse(tag) for tag in entry.get("RepoTags") or ())
            yield Archived(self._read(entry["Config"]), tuple(entry["Layers"]), tags)

    def _oci(self) -> Iterator[Archived]:
        listed = self._json("index.json").get("manifests") or ()
        usable = [descriptor for descriptor in listed if fits(descriptor)]
        if not usable:
            choose(listed)  # raises, and names what there is
        for descriptor in usable:
            digest = descriptor["digest"]
            manifest = json.loads(self._read(_blob(digest)))
            while "manifests" in manifest:
                digest = choose(manifest["manifests"])
                manifest = json.loads(self._read(_blob(digest)))
            layers = tuple(_blob(layer["digest"]) for layer in manifest["layers"])
            yield Archived(self._read(_blob(manifest["config"]["digest"])), layers, _names(descriptor), digest)

    def _json(self, name: str) -> Any:
        return json.loads(self._read(name))

    def _read(self, name: str) -> bytes:
        data = self.open(name).read(MAX_CONFIG + 1)
        if len(data) > MAX_CONFIG:
            raise InvalidSpec(f"{self._path}: {name} is larger than {MAX_CONFIG} bytes")
        return data


def _first_line(error: Exception) -> str:
    """tarfile lists what every compression method says, a line each."""
    head, more, _ = str(error).partition(":\n")
    return "no tar file" if more else head


def _names(descriptor: dict[str, Any]) -> tuple[Reference, ...]:
    """containerd's annotation has the full name; OCI's own often only the tag, which names nothing."""
    annotations = descriptor.get("annotations") or {}
    full = annotations.get("io.containerd.image.name")
    short = annotations.get("org.opencontainers.image.ref.name") or ""
    name = full or (short if "/" in short or ":" in short else "")
    return (parse(name),) if name else ()


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _plain(name: str) -> str:
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
