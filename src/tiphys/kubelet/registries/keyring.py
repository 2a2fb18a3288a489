"""Credentials by registry, as docker's configuration files and pull Secrets have them. Pure.

A key is a host with an optional port and path (gcr.io/project); parts of the host may be globs (*.example.com). The
most specific key comes first. Source: "Images" and "Pull an Image from a Private Registry" in the documentation.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from tiphys.kubelet.podspec import Object
from tiphys.runtime.types import Credential

DOCKER_HUB = "index.docker.io"


@dataclass(frozen=True, slots=True)
class Origin:
    """The Secret or ServiceAccount that credentials come from."""

    kind: str
    """Secret or ServiceAccount."""
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Login:
    """Credentials and where they come from; without an origin every pod of the node may use them."""

    credential: Credential
    origin: Origin | None = None

    @cached_property
    def hash(self) -> str:
        """Tells whether two Secrets hold the same credentials."""
        fields = {
            "username": self.credential.username,
            "password": self.credential.password,
            "registrytoken": self.credential.token,
        }
        text = json.dumps({name: value for name, value in fields.items() if value}, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class Keyring:
    """Logins by registry."""

    def __init__(self) -> None:
        self._logins: dict[str, list[Login]] = {}

    def add(self, config: Mapping[str, Any], origin: Origin | None = None) -> None:
        """The `auths` of a docker configuration; entries that make no sense are left out."""
        for place, entry in config.items():
            key = _key(place)
            if key and isinstance(entry, Mapping) and (credential := credential_of(entry)) is not None:
                self._logins.setdefault(key, []).append(Login(credential, origin))

    def lookup(self, repository: str) -> list[Login]:
        """All that fit a full repository name such as docker.io/library/nginx, the most specific first."""
        found = [
            login
            for key in sorted(self._logins, reverse=True)
            if matches(key, repository)
            for login in self._logins[key]
        ]
        if not found and repository.partition("/")[0] in ("docker.io", DOCKER_HUB):
            found = list(self._logins.get(DOCKER_HUB, ()))
        return found


def _key(place: str) -> str:
    """Host and path of a configuration's key, without the scheme and the API's version."""
    try:
        parts = urlsplit(place if place.startswith(("https://", "http://")) else f"https://{place}")
    except ValueError:
        return ""
    path = parts.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return parts.netloc + ("" if path == "/" else path)


def matches(pattern: str, repository: str) -> bool:
    """Whether a key or a matchImages entry is for a repository: hosts by part, ports equal, paths by prefix."""
    wanted, found = urlsplit(f"https://{pattern}"), urlsplit(f"https://{repository}")
    wanted_host, _, wanted_port = wanted.netloc.partition(":")
    found_host, _, found_port = found.netloc.partition(":")
    ours, theirs = wanted_host.split("."), found_host.split(".")
    return (
        wanted_port == found_port
        and len(ours) == len(theirs)
        and found.path.startswith(wanted.path)
        and all(fnmatch.fnmatchcase(part, glob) for glob, part in zip(ours, theirs, strict=True))
    )


def credential_of(entry: Mapping[str, Any]) -> Credential | None:
    """What one entry says; None when its `auth` cannot be read."""
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if encoded := str(entry.get("auth") or "").strip():
        try:
            pair = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, colon, password = pair.partition(":")
        if not colon:
            return None
    return Credential(user, password, str(entry.get("identitytoken") or entry.get("registrytoken") or ""))


def keyring_of(secrets: Sequence[Object]) -> Keyring:
    """Of the pull Secrets of a pod, of both types. Raises ValueError for one whose content is not JSON."""
    ring = Keyring()
    for secret in secrets:
        meta, data = secret["metadata"], secret.get("data") or {}
        origin = Origin("Secret", str(meta.get("namespace") or ""), str(meta["name"]), str(meta.get("uid") or ""))
        if secret.get("type") == "kubernetes.io/dockerconfigjson" and data.get(".dockerconfigjson"):
            ring.add(parse_config(base64.b64decode(data[".dockerconfigjson"])), origin)
        elif secret.get("type") == "kubernetes.io/dockercfg" and data.get(".dockercfg"):
            ring.add(_mapping(json.loads(base64.b64decode(data[".dockercfg"]))), origin)
    return ring


def parse_config(text: bytes) -> Mapping[str, Any]:
    """The `auths` of a config.json. Raises ValueError."""
    return _mapping(_mapping(json.loads(text)).get("auths") or {})


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("not a docker configuration")  # noqa: TRY004 - what json raises for other nonsense
    return value
