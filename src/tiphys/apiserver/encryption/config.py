"""Reads an EncryptionConfiguration (apiserver.config.k8s.io/v1), with upstream's rules about it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tiphys.apiserver.configfile import read
from tiphys.apiserver.encryption.ciphers import AesCbc, AesGcm, Cipher, Identity
from tiphys.apiserver.encryption.rules import Rules
from tiphys.base.errors import Permanent

KEYS = {"keys": [{"name": None, "secret": None}]}
KMS = {"apiVersion": None, "name": None, "cachesize": None, "endpoint": None, "timeout": None}
PROVIDERS = {"aescbc": KEYS, "aesgcm": KEYS, "secretbox": KEYS, "identity": {}, "kms": KMS}
SHAPE = {"resources": [{"resources": None, "providers": [PROVIDERS]}]}
LENGTHS = {"aescbc": (16, 24, 32), "aesgcm": (16, 24, 32)}
UNSUPPORTED = {
    "kms": "envelope encryption by a KMS plugin is not supported; use aesgcm, aescbc or identity",
    "secretbox": "XSalsa20-Poly1305 is not in the cryptography library; use aesgcm or aescbc",
}
UNSTORED = ("apiserveripinfo", "serviceipallocations", "servicenodeportallocations")

Where = tuple[str, str]


def load(path: Path) -> Rules:
    """The rules in a file. Raises Permanent."""
    document = read(path, "apiserver.config.k8s.io", "EncryptionConfiguration", ("v1",), SHAPE)
    try:
        return Rules(list(_chains(document.get("resources") or [])))
    except Permanent as error:
        raise Permanent(f"{path}: {error}") from error


def _chains(rules: Sequence[dict[str, Any]]) -> Iterator[tuple[Where, list[Cipher]]]:
    if not rules:
        raise Permanent("resources: Required value: at least one resources is required")
    seen: set[Where] = set()
    for index, rule in enumerate(rules):
        field = f"resources[{index}]"
        wanted = [_where(str(text), f"{field}.resources[{at}]") for at, text in enumerate(rule.get("resources") or [])]
        _check_overlap(wanted, f"{field}.resources")
        providers = rule.get("providers") or []
        if not providers:
            raise Permanent(f"{field}.providers: Required value: at least one {field}.providers is required")
        ciphers = [one for at, each in enumerate(providers) for one in _provider(each, f"{field}.providers[{at}]")]
        for where in wanted:
            _check_masked(where, seen)
            yield where, ciphers
        seen.update(wanted)


def _where(text: str, field: str) -> Where:
    """(group, resource) of `secrets`, `deployments.apps`, `*.apps`, `*.` or `*.*`."""
    problem = ""
    resource, _, group = text.partition(".")
    if text != text.lower():
        problem = "resource name should not contain capital letters"
    elif text == "*":
        problem = "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    elif text in UNSTORED:
        problem = "resources which do not have REST API/s cannot be encrypted"
    elif group == "events.k8s.io":
        problem = (
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. "
            "Use 'events' instead in the config file"
        )
    elif group == "extensions":
        problem = "'extensions' group has been removed and cannot be used for encryption"
    elif group == "*" and resource != "*":
        problem = "encrypting the same resource across groups is not supported"
    if problem:
        raise Permanent(f'{field}: Invalid value: "{text}": {problem}')
    return group, resource


def _check_overlap(wanted: Sequence[Where], field: str) -> None:
    if not wanted:
        raise Permanent(f"{field}: Required value: at least one {field} is required")
    if len(set(wanted)) < len(wanted):
        raise Permanent(f"{field}: Invalid value: the same resource cannot be specified multiple times")
    everything = ("*", "*") in wanted and len(wanted) > 1
    groups = [group for group, resource in wanted if resource == "*"]
    if everything or any(group in groups and resource != "*" for group, resource in wanted):
        text = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed"
        raise Permanent(f"{field}: Invalid value: {text} as they will be masked")


def _check_masked(where: Where, seen: set[Where]) -> None:
    for mask in ((where[0], "*"), ("*", "*")):
        if mask in seen:
            raise Permanent(f'resource "{_shown(where)}" is masked by earlier rule "{_shown(mask)}"')


def _shown(where: Where) -> str:
    group, resource = where
    return f"{resource}.{group}" if group or resource == "*" else resource


def _provider(provider: Any, field: str) -> list[Cipher]:
    named = [name for name in PROVIDERS if isinstance(provider, dict) and provider.get(name) is not None]
    if not named:
        expected = "KMS, AESGCM, AESCBC, Secretbox, Identity"
        raise Permanent(f"{field}: Invalid value: provider does not contain any of the expected providers: {expected}")
    if len(named) > 1:
        text = "more than one provider specified in a single element, should split into different list elements"
        raise Permanent(f"{field}: Invalid value: {text}")
    name = named[0]
    if name in UNSUPPORTED:
        raise Permanent(f"{field}.{name}: {UNSUPPORTED[name]}")
    if name == "identity":
        return [Identity()]
    keys = provider[name].get("keys") or []
    if not keys:
        raise Permanent(f"{field}.{name}.keys: Required value: at least one keys is required")
    make = AesCbc if name == "aescbc" else AesGcm
    return [make(*_key(key, f"{field}.{name}.keys[{at}]", LENGTHS[name])) for at, key in enumerate(keys)]


def _key(key: dict[str, Any], field: str, lengths: tuple[int, ...]) -> tuple[str, bytes]:
    """(name, secret). What is wrong is told without the secret."""
    for part in ("name", "secret"):
        if not key.get(part):
            raise Permanent(f"{field}.{part}: Required value: {part} is a mandatory field for a key")
    try:
        secret = base64.b64decode(str(key["secret"]), validate=True)
    except (binascii.Error, ValueError):
        text = "secrets must be base64 encoded"
        raise Permanent(f'{field}.secret: Invalid value: "REDACTED": {text}') from None
    if len(secret) not in lengths:
        expected = "[" + " ".join(str(length) for length in lengths) + "]"
        text = f"secret is not of the expected length, got {len(secret)}, expected one of {expected}"
        raise Permanent(f'{field}.secret: Invalid value: "REDACTED": {text}')
    return str(key["name"]), secret
