"""The files of a projected volume: what configMap, secret and downwardAPI sources put where, with which mode. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.base.errors import TiphysError
from tiphys.kubelet.downward import NoSuchField, PodFacts, field_value, resource_value
from tiphys.kubelet.podspec import Object


class VolumeError(TiphysError):
    """A volume cannot be set up now; the message is for its event, which begins with the `step` that failed."""

    def __init__(self, message: str, step: str = "MountVolume.SetUp failed") -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    mode: int
    owner: int | None = None
    """UID, if not the kubelet's own."""


MAX_PATH, MAX_NAME = 4096, 255
"""Bytes."""

Payload = dict[str, File]
"""Relative path -> file."""


def decode_secret(secret: Object) -> dict[str, bytes]:
    """A Secret's data, decoded."""
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def decode_config_map(config_map: Object) -> dict[str, bytes]:
    """A ConfigMap's data and binaryData."""
    data = {key: str(value).encode() for key, value in (config_map.get("data") or {}).items()}
    return data | {key: base64.b64decode(value) for key, value in (config_map.get("binaryData") or {}).items()}


def pick(
    data: Mapping[str, bytes], items: Sequence[Mapping[str, Any]] | None, mode: int, optional: bool, missing: str
) -> Payload:
    """The chosen keys at their paths; all keys when none are chosen. `missing` begins the error for an absent key."""
    if not items:
        return {clean_path(key): File(value, mode) for key, value in data.items()}
    payload: Payload = {}
    for item in items:
        if item["key"] in data:
            own = item.get("mode")
            payload[clean_path(item["path"])] = File(data[item["key"]], mode if own is None else int(own))
        elif not optional:
            raise VolumeError(f"{missing}: {item['key']}")
    return payload


def downward_files(facts: PodFacts, items: Sequence[Mapping[str, Any]], mode: int) -> Payload:
    """Files of a downwardAPI source."""
    payload: Payload = {}
    wrong = []
    for item in items:
        own = item.get("mode")
        try:
            if reference := item.get("fieldRef"):
                text = field_value(facts, reference["fieldPath"])
            else:
                text = resource_value(facts, item.get("resourceFieldRef") or {}, None)
        except NoSuchField as error:
            wrong.append(str(error))
            continue
        payload[clean_path(item["path"])] = File(text.encode(), mode if own is None else int(own))
    if wrong:
        raise VolumeError(aggregate(wrong))
    return payload


def aggregate(messages: Sequence[str]) -> str:
    """Several errors as one: each once, in brackets when there are more."""
    once = list(dict.fromkeys(messages))
    return once[0] if len(once) == 1 else f"[{', '.join(once)}]"


def clean_path(path: str) -> str:
    """A relative path without surprises. Raises VolumeError for what leaves the volume or hides in `..`."""
    parts = path.split("/")
    wrong = (
        f'must not be empty: "{path}"' if not path
        else f"must be relative path: {path}" if path.startswith("/")
        else f"must be less than or equal to {MAX_PATH} characters" if len(path.encode()) > MAX_PATH
        else f"must not contain '..': {path}" if ".." in parts
        else f"filenames must be less than or equal to {MAX_NAME} characters"
        if any(len(part.encode()) > MAX_NAME for part in parts)
        else f"must not start with '..': {path}" if parts[0].startswith("..")
        else ""
    )  # fmt: skip
    if wrong:
        raise VolumeError(f"invalid path: {wrong}")
    return "/".join(part for part in parts if part not in ("", "."))
