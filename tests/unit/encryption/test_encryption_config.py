"""EncryptionConfiguration: which keys of the store have which providers, and what is refused."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from tiphys.apiserver.encryption import Rules, load
from tiphys.apiserver.encryption.ciphers import AesCbc, AesGcm, Identity, Undecipherable
from tiphys.apiserver.encryption.rules import Chain
from tiphys.base.errors import Permanent

KEY = base64.b64encode(b"k" * 32).decode()
WHERE = b"core/secrets/default/a"


def aes(kind: str = "aescbc", *names: str, secret: str = KEY) -> dict[str, Any]:
    return {kind: {"keys": [{"name": name, "secret": secret} for name in names or ("key1",)]}}


def loaded(tmp_path: Path, *rules: tuple[list[str], list[dict[str, Any]]]) -> Rules:
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": resources, "providers": providers} for resources, providers in rules],
    }
    file = tmp_path / "encryption.yaml"
    file.write_bytes(orjson.dumps(document))
    return load(file)


def test_the_most_specific_earlier_rule_holds(tmp_path: Path) -> None:
    rules = loaded(
        tmp_path,
        (["events"], [{"identity": {}}]),
        (["secrets", "pandas.awesome.bears.example"], [aes("aescbc", "one")]),
        (["*.apps"], [aes("aescbc", "two")]),
        (["*.*"], [aes("aesgcm", "three")]),
    )
    for key, prefix in (
        ("core/events/default/e", b"value"),
        ("core/secrets/default/s", b"k8s:enc:aescbc:v1:one:"),
        ("awesome.bears.example/pandas/p", b"k8s:enc:aescbc:v1:one:"),
        ("apps/deployments/default/d", b"k8s:enc:aescbc:v1:two:"),
        ("core/configmaps/default/c", b"k8s:enc:aesgcm:v1:three:"),
        ("tiphys/compaction", b"value"),
    ):
        sealed = rules.of(key).encrypt(b"value", key.encode())
        assert sealed.startswith(prefix)
        assert rules.of(key).decrypt(sealed, key.encode()) == b"value"


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 5000])
@pytest.mark.parametrize("length", [16, 24, 32])
def test_what_is_encrypted_can_be_read(size: int, length: int) -> None:
    value = bytes(number % 251 for number in range(size))
    for cipher in (AesCbc("a", b"k" * length), AesGcm("a", b"k" * length), Identity()):
        sealed = cipher.encrypt(value, WHERE)
        assert cipher.decrypt(sealed, WHERE) == value
        if cipher.prefix:
            assert sealed != cipher.encrypt(value, WHERE)


def test_a_value_that_was_changed_or_moved_is_refused() -> None:
    gcm, cbc = AesGcm("a", b"k" * 32), AesCbc("a", b"k" * 32)
    sealed = gcm.encrypt(b"value", WHERE)
    for data, where in ((sealed, b"core/secrets/default/b"), (sealed[:-1] + b"!", WHERE), (b"short", WHERE)):
        with pytest.raises(Undecipherable):
            gcm.decrypt(data, where)
    for data in (b"short", b"x" * 33, AesCbc("a", b"K" * 32).encrypt(b"value" * 100, WHERE)):
        with pytest.raises(Undecipherable):
            cbc.decrypt(data, WHERE)
    with pytest.raises(Undecipherable):
        Identity().decrypt(b"k8s:enc:aescbc:v1:key1:abc", WHERE)


def test_the_first_key_writes_and_all_read() -> None:
    old, new, plain = AesCbc("old", b"o" * 32), AesCbc("new", b"n" * 32), Identity()
    before = Chain((old, plain))
    after = Chain((new, old, plain))
    for sealed in (before.encrypt(b"value", WHERE), b"value"):
        assert after.decrypt(sealed, WHERE) == b"value"
        assert not after.fresh(sealed)
    assert after.fresh(after.encrypt(b"value", WHERE))
    away = Chain((plain, new))
    assert away.encrypt(b"value", WHERE) == b"value"
    assert away.decrypt(after.encrypt(b"value", WHERE), WHERE) == b"value"
    assert not away.fresh(after.encrypt(b"value", WHERE))
    with pytest.raises(Undecipherable, match="no matching prefix found"):
        Chain((new,)).decrypt(before.encrypt(b"value", WHERE), WHERE)


def test_keys_of_one_name_are_tried_in_turn() -> None:
    first, second = AesGcm("key", b"1" * 32), AesGcm("key", b"2" * 32)
    assert Chain((first, second)).decrypt(Chain((second,)).encrypt(b"value", WHERE), WHERE) == b"value"


@pytest.mark.parametrize(
    ("resources", "providers", "problem"),
    [
        (["*"], [aes()], "resources[0].resources[0]: Invalid value: \"*\": use '*.' to encrypt all"),
        (["Secrets"], [aes()], "resource name should not contain capital letters"),
        (["secrets", "secrets"], [aes()], "the same resource cannot be specified multiple times"),
        (["secrets", "*."], [aes()], "using overlapping resources such as 'secrets' and '*.'"),
        (["secrets", "*.*"], [aes()], "using overlapping resources such as 'secrets' and '*.'"),
        (["deployments.*"], [aes()], "encrypting the same resource across groups is not supported"),
        (["*.events.k8s.io"], [aes()], "Use 'events' instead in the config file"),
        (["apiserveripinfo"], [aes()], "resources which do not have REST API/s cannot be encrypted"),
        ([], [aes()], "at least one resources[0].resources is required"),
        (["secrets"], [], "at least one resources[0].providers is required"),
        (["secrets"], [{}], "provider does not contain any of the expected providers"),
        (["secrets"], [{**aes(), "identity": {}}], "more than one provider specified in a single element"),
        (["secrets"], [aes(secret="!")], 'keys[0].secret: Invalid value: "REDACTED": secrets must be base64 encoded'),
        (["secrets"], [aes(secret="YWJj")], "secret is not of the expected length, got 3, expected one of [16 24 32]"),
        (["secrets"], [{"aescbc": {"keys": []}}], "at least one keys is required"),
        (["secrets"], [{"aescbc": {"keys": [{"secret": KEY}]}}], "name is a mandatory field for a key"),
        (["secrets"], [aes("secretbox")], "providers[0].secretbox: XSalsa20-Poly1305 is not"),
        (["secrets"], [{"kms": {"name": "x", "endpoint": "unix:///x"}}], "providers[0].kms: envelope encryption"),
        (["secrets"], [{"aesctr": {}}], 'unknown field "resources[0].providers[0].aesctr"'),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    tmp_path: Path, resources: list[str], providers: list[dict[str, Any]], problem: str
) -> None:
    with pytest.raises(Permanent, match=re.escape(problem)) as caught:
        loaded(tmp_path, (resources, providers))
    assert KEY not in str(caught.value)


def test_a_rule_that_an_earlier_one_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=re.escape('resource "secrets" is masked by earlier rule "*."')):
        loaded(tmp_path, (["*."], [aes()]), (["secrets"], [aes()]))
    with pytest.raises(Permanent, match=re.escape('is masked by earlier rule "*.*"')):
        loaded(tmp_path, (["*.*"], [aes()]), (["*.apps"], [aes()]))
