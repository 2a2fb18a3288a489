"""The node's own docker configuration: credentials that every pod of the node may use."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiphys.kubelet.registries.keyring import Keyring, parse_config

log = logging.getLogger(__name__)


def node_keyring(root_dir: Path) -> Keyring:
    """From the first config.json that can be read: of ROOT_DIR, the working directory, ~/.docker, /.docker; without
    any from the first .dockercfg of ROOT_DIR, the working directory, ~ and /. Read afresh each time."""
    home = Path(os.path.expanduser("~"))
    ring = Keyring()
    for directory in (root_dir, Path(), home / ".docker", Path("/.docker")):
        if (found := _read(directory / "config.json")) is not None:
            ring.add(found)
            return ring
    for directory in (root_dir, Path(), home, Path("/")):
        if (found := _read(directory / ".dockercfg")) is not None:
            ring.add(found)
            return ring
    return ring


def _read(file: Path) -> Mapping[str, Any] | None:
    try:
        text = file.read_bytes()
        return parse_config(text) if file.name == "config.json" else dict(json.loads(text))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s cannot be read: %s", file, error)
        return None
