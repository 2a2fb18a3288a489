"""Runs plugins: programs that read a configuration and write a result, in the node's network namespace."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.runtime import netns
from tiphys.runtime.cni import results
from tiphys.runtime.cni.conf import VERSIONS, CniError, NetworkConfig

TIMEOUT = 120.0
"""Seconds that one call of a plugin may take."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where plugins are and where they run."""

    directories: tuple[Path, ...]
    namespace: str
    """The node's network namespace: plugins make bridges, routes and rules there."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a call is about: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME and CNI_ARGS."""

    id: str = ""
    namespace: str = ""
    interface: str = ""
    arguments: Mapping[str, str] | None = None

    def environment(self, command: str, path: Sequence[Path]) -> dict[str, str]:
        listed = ";".join(f"{name}={value}" for name, value in (self.arguments or {}).items())
        named = {"CNI_CONTAINERID": self.id, "CNI_NETNS": self.namespace, "CNI_IFNAME": self.interface}
        told = {"CNI_COMMAND": command, "CNI_PATH": ":".join(map(str, path)), "CNI_ARGS": listed, **named}
        return {**os.environ, **{name: value for name, value in told.items() if value}}


def find(place: Place, kind: str) -> Path:
    """The program of a plugin type. Raises CniError."""
    for directory in place.directories:
        program = directory / kind
        if program.is_file() and os.access(program, os.X_OK):
            return program
    where = " ".join(map(str, place.directories))
    raise CniError(f'failed to find plugin "{kind}" in path [{where}]')


def call(place: Place, command: str, config: Mapping[str, Any], about: Attachment, timeout: float = TIMEOUT) -> bytes:
    """Run the plugin that `config` names; returns what it writes. Raises CniError. Blocks."""
    kind = str(config["type"])
    program = find(place, kind)
    environment = about.environment(command, place.directories)

    def run() -> tuple[int, bytes, bytes]:
        # A session of its own: plugins run others, which must end with them.
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [str(program)], env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        ) as process:
            try:
                output, errors = process.communicate(json.dumps(config).encode(), timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return process.returncode, output, errors

    try:
        status, output, errors = netns.inside(place.namespace, run)
    except subprocess.TimeoutExpired as error:
        raise CniError(f'plugin type="{kind}" failed ({command.lower()}): no answer in {timeout:.0f} s') from error
    except OSError as error:
        raise CniError(f'plugin type="{kind}" failed ({command.lower()}): {program}: {error.strerror}') from error
    if status:
        raise results.failure(kind, command, status, output, errors)
    return output


def check_versions(place: Place, config: NetworkConfig) -> None:
    """Raises CniError when a plugin is not there or does not know the configuration's version."""
    for plugin in config.plugins:
        program = find(place, str(plugin["type"]))
        known = _versions(place, str(plugin["type"]), program, program.stat().st_mtime_ns)
        if config.version not in known:
            raise CniError(
                f'{config.source}: plugin "{plugin["type"]}" does not support version {config.version}, only '
                f"{', '.join(known)}"
            )


@functools.lru_cache(maxsize=64)
def _versions(place: Place, kind: str, program: Path, changed: int) -> tuple[str, ...]:
    """What VERSION answers; a program that changes is asked again."""
    answer = call(place, "VERSION", {"cniVersion": VERSIONS[-1], "type": kind}, Attachment())
    try:
        return tuple(map(str, json.loads(answer)["supportedVersions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CniError(f'plugin type="{kind}" failed (version): {program}: {error}') from error
