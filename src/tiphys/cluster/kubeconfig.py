"""Put a cluster's context into the user's kubeconfig, and take it out again, by kubectl's own rules.

Which file (kubectl's documentation, "Organizing Cluster Access Using kubeconfig Files"): an explicit one, else the
files of $KUBECONFIG, else ~/.kube/config. Of a list, the file that already has the entry is changed; a new entry
goes to the first file that exists, or the last of the list. Like kubectl, writers hold FILE.lock.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiphys.base.clock import SystemClock
from tiphys.base.errors import Permanent
from tiphys.base.files import write_atomic

Config = dict[str, Any]
SECTIONS = ("clusters", "users", "contexts")
LOCK_WAIT = 10.0
LOCK_STEP = 0.02
LOCK_AGE = 60.0
"""Seconds after which nobody can still be writing: whoever made the lock was killed."""


def files(explicit: str = "") -> list[Path]:
    """The kubeconfig files in force, in order; at least one, which need not exist."""
    if explicit:
        return [Path(explicit).expanduser()]
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return listed or [Path("~/.kube/config").expanduser()]


def entry(name: str, server: str, ca: bytes, certificate: bytes, key: bytes) -> Config:
    """A kubeconfig with one cluster, user and context, all called `name`; PEM in, base64 inside."""

    def encode(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": encode(ca)}}],
        "users": [
            {
                "name": name,
                "user": {"client-certificate-data": encode(certificate), "client-key-data": encode(key)},
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def check(explicit: str = "") -> None:
    """Raises Permanent or OSError if `merge` could not read the files in force: before a cluster is started."""
    for path in files(explicit):
        _read(path)


def merge(addition: Config, explicit: str = "", select: bool = True) -> Path:
    """Add (or replace) the entries of `addition`; returns the file that was changed.

    `select` makes its context the current one; the first context of an empty kubeconfig is always selected.
    """
    name = addition["current-context"]
    candidates = files(explicit)
    target = _holder(candidates, name) or _default_target(candidates)
    with _locked(target):
        config = _read(target)
        for section in SECTIONS:
            kept = [item for item in config.get(section) or [] if item.get("name") != name]
            config[section] = kept + addition[section]
        if select or not config.get("current-context"):
            config["current-context"] = name
        _write(target, config)
    if select:
        _unselect_before(candidates, target)
    return target


def remove(name: str, explicit: str = "") -> list[Path]:
    """Take every entry called `name` out of the files in force; returns those that changed."""
    changed = []
    for path in files(explicit):
        if not path.exists():
            continue
        with _locked(path):
            config = _read(path)
            before = repr(config)
            for section in SECTIONS:
                if config.get(section):
                    config[section] = [item for item in config[section] if item.get("name") != name]
            if config.get("current-context") == name:
                config["current-context"] = ""
            if repr(config) != before:
                _write(path, config)
                changed.append(path)
    return changed


def dump(config: Config) -> bytes:
    import yaml

    return yaml.safe_dump(config, sort_keys=False).encode()


def _holder(candidates: list[Path], name: str) -> Path | None:
    for path in candidates:
        if path.exists() and any(item.get("name") == name for item in _read(path).get("contexts") or []):
            return path
    return None


def _default_target(candidates: list[Path]) -> Path:
    return next((path for path in candidates if path.exists()), candidates[-1])


def _unselect_before(candidates: list[Path], target: Path) -> None:
    """An earlier file's current-context wins over a later one's: make the earlier files agree."""
    for path in candidates[: candidates.index(target)]:
        if path.exists():
            with _locked(path):
                config = _read(path)
                if config.get("current-context"):
                    config["current-context"] = ""
                    _write(path, config)


def _read(path: Path) -> Config:
    import yaml

    try:
        text = path.read_bytes()
    except FileNotFoundError:
        text = b""
    except (IsADirectoryError, NotADirectoryError) as error:
        raise Permanent(f"kubeconfig {path}: {error.strerror}") from error
    try:
        config = yaml.safe_load(text) or {"apiVersion": "v1", "kind": "Config", "preferences": {}}
    except yaml.YAMLError as error:
        raise Permanent(f"kubeconfig {path} is not YAML and was left alone: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or not all(_listed(config.get(section)) for section in SECTIONS):
        raise Permanent(f"kubeconfig {path} is not a kubeconfig and was left alone")
    return config


def _listed(section: object) -> bool:
    """Whether a section is what it should be: nothing, or a list of named things."""
    return section is None or (isinstance(section, list) and all(isinstance(item, dict) for item in section))


def _write(path: Path, config: Config) -> None:
    write_atomic(path.resolve(), dump(config), 0o600)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """kubectl's lock: FILE.lock exists while someone writes FILE. Waits up to 10 s; ours names its process."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    clock = SystemClock()
    end = clock.monotonic() + LOCK_WAIT
    while True:
        try:
            with open(lock, "x") as file:
                file.write(str(os.getpid()))
            break
        except FileExistsError:
            if _abandoned(lock, clock.time()):
                lock.unlink(missing_ok=True)
                continue
            if clock.monotonic() > end:
                raise Permanent(
                    f"kubeconfig {path} is locked: {lock} exists for {LOCK_WAIT:.0f} s; remove it if no kubectl runs"
                ) from None
            clock.pause(LOCK_STEP)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _abandoned(lock: Path, now: float) -> bool:
    """Whether nobody can be writing any more."""
    try:
        owner, age = lock.read_text(), now - lock.stat().st_mtime
    except FileNotFoundError:
        return False
    return age > LOCK_AGE or (owner.isdigit() and not Path("/proc", owner).exists())
