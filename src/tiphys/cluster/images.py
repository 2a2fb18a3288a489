"""The machine's images, for commands: the same content store that the nodes use, without asking any process."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from zlib import crc32

from tiphys.base.clock import SystemClock
from tiphys.base.errors import Permanent
from tiphys.base.files import write_atomic
from tiphys.cluster import config as configs
from tiphys.cluster import paths
from tiphys.cluster.locks import locked
from tiphys.runtime.images import LocalImages
from tiphys.runtime.inventory import images_in_use
from tiphys.runtime.types import Credential, Image

CERTS = (Path("/etc/containerd/certs.d"), Path("/etc/docker/certs.d"))
"""How registries are reached, besides HOME/certs.d; see runtime/images/hosts.py."""


def store(near: str = "") -> LocalImages:
    """The content store that all clusters of this machine share. `near`: the network namespace (a path) of the node
    that pulls: a registry at localhost is there, or else on this machine."""
    directory = paths.images_dir()
    directory.mkdir(mode=paths.PRIVATE, parents=True, exist_ok=True)
    certs = (paths.home() / "certs.d", *CERTS)
    return LocalImages(directory, clock=SystemClock(), mirrors=mirrors(), certs=certs, near=near, in_use=in_use)


def in_use(image: str) -> bool:
    """Whether a container of any node of this machine was made from the image with this ID."""
    nodes = (
        runtime
        for config in filter(None, map(configs.last_known, configs.names()))
        for runtime in (config.paths.data / "nodes").glob("*/runtime")
    )
    return any(image in images_in_use(runtime) for runtime in (*nodes, *alone()))


def remember(runtime: Path) -> None:
    """Count a runtime outside of all clusters, that of a kubelet that runs alone, among those that need images."""
    directory = paths.runtimes_dir()
    directory.mkdir(mode=paths.PRIVATE, parents=True, exist_ok=True)
    write_atomic(directory / f"{crc32(os.fsencode(runtime)):08x}", os.fsencode(runtime))


def alone() -> list[Path]:
    """Directories of the runtimes outside of all clusters that are still there."""
    found = (Path(os.fsdecode(file.read_bytes())) for file in paths.runtimes_dir().glob("*"))
    return [runtime for runtime in found if runtime.is_dir()]


def mirrors() -> dict[str, Sequence[str]]:
    """HOME/mirrors.json: {"docker.io": ["https://mirror.example"]}; none without the file."""
    file = paths.home() / "mirrors.json"
    try:
        loaded = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Permanent(f"{file} is not JSON: {error}") from error
    if not isinstance(loaded, dict) or not all(isinstance(urls, list) for urls in loaded.values()):
        raise Permanent(f'{file} must map registries to lists of URLs: {{"docker.io": ["https://mirror.example"]}}')
    return {str(host): tuple(map(str, urls)) for host, urls in loaded.items()}


def load(file: Path) -> Sequence[Image]:
    """Raises TiphysError if the file has no image that this machine can run."""
    with _kept():
        return asyncio.run(store().load(str(file)))


def pull(reference: str, docker_config: Path | None) -> Image:
    """Raises TiphysError with what the registry said."""
    known = [*credentials(reference, docker_config), Credential()]
    with _kept():
        return asyncio.run(store().pull(reference, known))


def every() -> Sequence[Image]:
    """All images, ordered by their tags."""
    return asyncio.run(store().list())


def remove(reference: str) -> None:
    """Raises TiphysError if there is no such image or a container needs it."""
    with _kept():
        asyncio.run(store().remove(reference))


def _kept() -> AbstractContextManager[None]:
    """While it is held nobody removes the whole store with the last cluster."""
    return locked(paths.machine_lock(), shared=True)


def credentials(reference: str, docker_config: Path | None) -> list[Credential]:
    """What a docker config.json has for the registry of `reference`."""
    file = docker_config or Path("~/.docker/config.json").expanduser()
    try:
        entries = json.loads(file.read_text()).get("auths") or {}
    except FileNotFoundError:
        if docker_config is None:
            return []
        raise Permanent(f"--creds-file {docker_config}: no such file") from None
    except IsADirectoryError:
        raise Permanent(f"{file} is a directory, not a docker config.json") from None
    except (ValueError, AttributeError) as error:
        raise Permanent(f"{file} is not a docker config.json: {error}") from error
    first = reference.split("/", 1)[0]
    host = first if "." in first or ":" in first or first == "localhost" else "docker.io"
    aliases = {host, f"https://{host}", *(("https://index.docker.io/v1/",) if host == "docker.io" else ())}
    return [_credential(entry) for name, entry in entries.items() if name.rstrip("/") in aliases or name in aliases]


def _credential(entry: dict[str, str]) -> Credential:
    if entry.get("auth"):
        username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        return Credential(username=username, password=password)
    return Credential(
        username=entry.get("username", ""),
        password=entry.get("password", ""),
        token=entry.get("registrytoken") or entry.get("identitytoken") or "",
    )
