"""Encryption at rest: what EncryptionConfiguration says is encrypted in the store (docs/store.md).

`config` reads the file, `ciphers` are its providers, `rules` finds those of a key, `store` is the store with them in
between. Values begin with upstream's prefixes (k8s:enc:aescbc:v1:key1:), so that a key can be replaced by another: the
first provider writes, all of them read, and what another than the first wrote is written anew with its next change.
"""

from tiphys.apiserver.encryption.config import load
from tiphys.apiserver.encryption.rules import Rules
from tiphys.apiserver.encryption.store import EncryptedStore

__all__ = ["EncryptedStore", "Rules", "load"]
