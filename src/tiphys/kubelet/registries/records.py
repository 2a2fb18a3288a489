"""What kubelets have pulled, and with whose credentials: small files that outlive them.

    DIRECTORY/image_manager/pulling/sha256-HASH-OF-NAME   ImagePullIntent: a pull that has begun
    DIRECTORY/image_manager/pulled/sha256-HASH-OF-ID      ImagePulledRecord: an image that is here by our doing

DIRECTORY is where the images are, so that nodes which share those know of each other's pulls; else the kubelet's own.
Files are those of kubelet.config.k8s.io/v1beta1, so that either kubelet can go on with the other's.
Source: KEP-2535 (ensure secret pulled images).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tiphys.base.clock import Clock, rfc3339
from tiphys.kubelet.registries.keyring import Login, Origin
from tiphys.runtime.images.reference import parse
from tiphys.runtime.types import Image, InvalidSpec

API_VERSION = "kubelet.config.k8s.io/v1beta1"
MATCHES_REMEMBERED = 100
"""Secrets noted for one image because they were seen to hold credentials that are known to suffice."""


class PullRecords:
    """The records below one directory, of one kubelet or of all that share an image store."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._pulling = root / "image_manager" / "pulling"
        self._pulled = root / "image_manager" / "pulled"
        self._clock = clock
        self._under_way: dict[str, int] = {}

    def begin(self, name: str) -> None:
        """A pull of `name` begins. Raises OSError."""
        content = {"kind": "ImagePullIntent", "apiVersion": API_VERSION, "image": name}
        _write(self._pulling / _filename(name), content)
        self._under_way[name] = self._under_way.get(name, 0) + 1

    def failed(self, name: str) -> None:
        """The pull that began has come to nothing."""
        left = self._under_way.pop(name, 1) - 1
        if left > 0:
            self._under_way[name] = left
        else:
            (self._pulling / _filename(name)).unlink(missing_ok=True)

    def succeeded(self, name: str, image: str, login: Login | None) -> None:
        """The pull that began brought the image with this ID, with that login (None: without any)."""
        self.note(name, image, credentials_of(login))
        self.failed(name)

    def learn(self, name: str, image: str, login: Login) -> None:
        """A login that was not known holds credentials that are known to suffice for an image that is here."""
        self.note(name, image, credentials_of(login))

    def note(self, name: str, image: str, credentials: Mapping[str, Any] | None) -> None:
        """Add to what is known of an image; None only says that a kubelet brought it."""
        record = self.pulled(image)
        mapping = dict((record or {}).get("credentialMapping") or {})
        repository = repository_of(name)
        merged = merge(mapping.get(repository), credentials)
        if record is not None and merged == mapping.get(repository):
            return
        if merged is not None:
            mapping[repository] = merged
        content = {
            "kind": "ImagePulledRecord",
            "apiVersion": API_VERSION,
            "lastUpdatedTime": rfc3339(self._clock.time()),
            "imageRef": image,
            "credentialMapping": mapping,
        }
        _write(self._pulled / _filename(image), content)

    def pulled(self, image: str) -> dict[str, Any] | None:
        """The record of an image ID."""
        found = _read(self._pulled / _filename(image))
        return found if found is not None and found.get("imageRef") == image else None

    def is_under_way(self, name: str) -> bool:
        """Whether a pull of this name has begun whose outcome nobody wrote down."""
        return name in self._under_way or (self._pulling / _filename(name)).exists()

    def count_intents(self) -> float:
        """Of pulls under way, or cut off."""
        return len(list(self._pulling.glob("sha256-*")))

    def count_pulled(self) -> float:
        """Of images that are here by kubelets' doing."""
        return len(list(self._pulled.glob("sha256-*")))

    def recover(self, images: Iterable[Image]) -> None:
        """After a kill: what was being pulled and is here counts as pulled, nobody knows with whose credentials."""
        here = list(images)
        self.forget(image.id for image in here)
        if not self._pulling.is_dir():
            return
        named = {name: image.id for image in here for name in (*image.tags, *image.digests)}
        for file in self._pulling.glob("sha256-*"):
            name = str((_read(file) or {}).get("image") or "")
            image = named.get(_full(name))
            if image is not None:
                self.note(name, image, None)
            file.unlink(missing_ok=True)

    def forget(self, present: Iterable[str]) -> None:
        """Drop the records of images that are not among these IDs any more."""
        keep = {_filename(image) for image in present}
        if self._pulled.is_dir():
            for file in self._pulled.glob("sha256-*"):
                if file.name not in keep:
                    file.unlink(missing_ok=True)


def credentials_of(login: Login | None) -> dict[str, Any]:
    """What to write down of a login that sufficed."""
    if login is None or login.origin is None:
        return {"nodePodsAccessible": True}
    return {_list_of(login.origin): [_entry(login)]}


def _list_of(origin: Origin) -> str:
    return "kubernetesSecrets" if origin.kind == "Secret" else "kubernetesServiceAccounts"


def _entry(login: Login) -> dict[str, str]:
    origin = login.origin
    if origin is None:
        return {}
    entry = {"uid": origin.uid, "namespace": origin.namespace, "name": origin.name}
    return entry | {"credentialHash": login.hash} if origin.kind == "Secret" else entry


def merge(known: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What is known of one repository with what was learnt. Pure."""
    if not new or (known or {}).get("nodePodsAccessible"):
        return known
    if new.get("nodePodsAccessible") or known is None:
        return new
    merged = dict(known)
    for kind, entries in new.items():
        by_place = {_place(entry): entry for entry in (*(known.get(kind) or ()), *entries)}
        merged[kind] = [by_place[place] for place in sorted(by_place)]
    return merged


def _place(entry: Mapping[str, str]) -> tuple[str, str, str]:
    return entry["namespace"], entry["name"], entry["uid"]


def may_use(known: Mapping[str, Any] | None, logins: Iterable[Login]) -> tuple[bool, Login | None]:
    """Whether a pod with these logins may use an image, and a login that is worth noting for the next time. Pure."""
    if not known:
        return False, None
    if known.get("nodePodsAccessible"):
        return True, None
    secrets = known.get("kubernetesSecrets") or ()
    hashes = {entry.get("credentialHash") for entry in secrets}
    places = {_place(entry) for entry in secrets}
    accounts = {_place(entry) for entry in known.get("kubernetesServiceAccounts") or ()}
    for login in logins:
        if login.origin is None:
            continue
        place = (login.origin.namespace, login.origin.name, login.origin.uid)
        if login.origin.kind != "Secret":
            if place in accounts:
                return True, None
        elif (login.hash in hashes) != (place in places):
            return True, login if len(secrets) < MATCHES_REMEMBERED else None
        elif place in places:
            return True, None
    return False, None


def _full(name: str) -> str:
    try:
        return str(parse(name))
    except InvalidSpec:
        return name


def repository_of(name: str) -> str:
    """An image's name as pods write it, without tag and digest."""
    bare = name.partition("@")[0]
    head, colon, tag = bare.rpartition(":")
    return head if colon and "/" not in tag else bare


def _filename(text: str) -> str:
    return f"sha256-{hashlib.sha256(text.encode()).hexdigest()}"


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all. Not synced: what a crash of the machine takes is asked of the registry again."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
        target.write(json.dumps(content).encode())
    draft.replace(file)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
