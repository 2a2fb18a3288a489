"""The providers of EncryptionConfiguration: each one key, with the prefix that marks what it wrote.

The formats are upstream's. AES-GCM authenticates the key of the store along with the value, so that a value cannot be
moved to another key; AES-CBC authenticates nothing.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from tiphys.base.errors import TiphysError

MARK = b"k8s:enc:"
"""What all encrypted values begin with, whoever wrote them."""
_BLOCK, _NONCE = 16, 12


class Undecipherable(TiphysError):
    """The value was written with another key, or was changed."""


class Cipher(Protocol):
    prefix: bytes

    def encrypt(self, value: bytes, where: bytes) -> bytes:
        """The stored form, without the prefix. `where` is the key of the store."""
        ...

    def decrypt(self, data: bytes, where: bytes) -> bytes:
        """Raises Undecipherable."""
        ...


class Identity:
    """Values as they are."""

    prefix = b""

    def encrypt(self, value: bytes, where: bytes) -> bytes:
        return value

    def decrypt(self, data: bytes, where: bytes) -> bytes:
        if data.startswith(MARK):
            raise Undecipherable("identity transformer tried to read encrypted data")
        return data


class AesGcm:
    """AES-GCM: a random nonce of 12 bytes, then the sealed value."""

    def __init__(self, name: str, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.prefix = b"%saesgcm:v1:%s:" % (MARK, name.encode())
        self._aead = AESGCM(key)

    def encrypt(self, value: bytes, where: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._aead.encrypt(nonce, value, where)

    def decrypt(self, data: bytes, where: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        if len(data) < _NONCE:
            raise Undecipherable("the stored data was shorter than the required size")
        try:
            return self._aead.decrypt(data[:_NONCE], data[_NONCE:], where)
        except InvalidTag:
            raise Undecipherable("cipher: message authentication failed") from None


class AesCbc:
    """AES-CBC with PKCS#7 padding: a random vector of 16 bytes, then the blocks."""

    def __init__(self, name: str, key: bytes) -> None:
        self.prefix = b"%saescbc:v1:%s:" % (MARK, name.encode())
        self._key = key

    def _blocks(self, vector: bytes) -> Any:
        from cryptography.hazmat.primitives.ciphers import Cipher as Blocks
        from cryptography.hazmat.primitives.ciphers import algorithms, modes

        return Blocks(algorithms.AES(self._key), modes.CBC(vector))

    def encrypt(self, value: bytes, where: bytes) -> bytes:
        vector, padding = os.urandom(_BLOCK), _BLOCK - len(value) % _BLOCK
        sealing = self._blocks(vector).encryptor()
        return b"".join((vector, sealing.update(value + bytes([padding]) * padding), sealing.finalize()))

    def decrypt(self, data: bytes, where: bytes) -> bytes:
        if len(data) < 2 * _BLOCK:
            raise Undecipherable("the stored data was shorter than the required size")
        if len(data) % _BLOCK:
            raise Undecipherable("the stored data is not a multiple of the block size")
        opening = self._blocks(data[:_BLOCK]).decryptor()
        value: bytes = opening.update(data[_BLOCK:]) + opening.finalize()
        padding = value[-1]
        if not 0 < padding <= _BLOCK or value[-padding:] != bytes([padding]) * padding:
            raise Undecipherable("invalid padding on input")
        return value[:-padding]
