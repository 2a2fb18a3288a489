"""Remembers specs that were found good: pods of one workload are alike, and need to be looked at once.

Two specs are the same when their JSON is, but for the name of the volume that admission adds for the account's token,
which differs in each pod. Only this one name is left open, wherever it stands, so that a spec that mixes two names is
not the same as one that uses one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

KEPT = 256
"""Specs; one has about 2 kB."""
_token_volume = re.compile(rb'"(kube-api-access-[a-z0-9]{5})"').search


class GoodSpecs:
    """Keys of specs (`key_of`), to `add` when nothing was wrong with one, and to find by `in`."""

    def __init__(self) -> None:
        self._keys: dict[bytes, None] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def add(self, key: bytes) -> None:
        if len(self._keys) >= KEPT:
            del self._keys[next(iter(self._keys))]
        self._keys[key] = None


def key_of(spec: Mapping[str, Any], meta: Mapping[str, Any]) -> bytes | None:
    """None: what is right depends on more than the spec."""
    if meta.get("annotations") or spec.get("resourceClaims"):
        return None
    if any("ephemeral" in volume for volume in spec.get("volumes") or ()):
        return None
    text = orjson.dumps(spec)
    found = _token_volume(text)
    # No JSON text has a NUL.
    return text if found is None else text.replace(found[0], b"\0")
