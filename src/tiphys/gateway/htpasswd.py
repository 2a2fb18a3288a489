"""Lines of htpasswd files: whether a password fits. What takes long is for threads."""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import hmac
import threading
from collections.abc import Mapping
from functools import cache

_ITOA = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_APR1 = "$apr1$"
_lock = threading.Lock()
"""crypt(3) keeps its result in memory of its own."""


def parse(text: str) -> dict[str, str]:
    """Hashes by user name; lines that are none are left out."""
    pairs = (line.strip().partition(":") for line in text.splitlines() if line.strip()[:1] not in ("", "#"))
    return {name: rest.partition(":")[0] for name, colon, rest in pairs if name and colon and rest}


def credentials(header: str) -> tuple[str, str] | None:
    """User and password of an Authorization field (RFC 7617)."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


def permitted(users: Mapping[str, str], header: str) -> bool:
    """Whether an Authorization field has the password of one of the users."""
    found = credentials(header)
    return found is not None and found[0] in users and fits(found[1], users[found[0]])


def fits(password: str, hashed: str) -> bool:
    """By the form of the hash: {SHA}, {SSHA}, {PLAIN}, $apr1$, and those of crypt(3)."""
    secret = password.encode()
    if hashed.startswith("{PLAIN}"):
        return hmac.compare_digest(hashed[7:].encode(), secret)
    if hashed.startswith("{SHA}"):
        return _same(hashlib.sha1(secret, usedforsecurity=False).digest(), hashed[5:])
    if hashed.startswith("{SSHA}"):
        salt = _decoded(hashed[6:])[20:]
        return _same(hashlib.sha1(secret + salt, usedforsecurity=False).digest() + salt, hashed[6:])
    if hashed.startswith(_APR1):
        return hmac.compare_digest(_apr1(secret, hashed.split("$")[2]).encode(), hashed.encode())
    made = _crypt(secret, hashed)
    return made is not None and hmac.compare_digest(made.encode(), hashed.encode())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _same(digest: bytes, encoded: str) -> bool:
    return hmac.compare_digest(digest, _decoded(encoded))


@cache
def _library() -> ctypes.CDLL | None:
    for name in ("libcrypt.so.1", "libcrypt.so.2", "libc.so"):
        try:
            library = ctypes.CDLL(name)
            library.crypt.restype = ctypes.c_char_p
            library.crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        except (OSError, AttributeError):
            continue
        return library
    return None


def _crypt(secret: bytes, hashed: str) -> str | None:
    """The hash of crypt(3), None when it makes none of this: its failures begin with *, as hashes of nobody do."""
    library = _library()
    if library is None or b"\0" in secret or len(hashed) < 13:
        return None
    with _lock:
        result = library.crypt(secret, hashed.encode())
    return result.decode("latin-1") if result and not result.startswith(b"*") else None


def _apr1(secret: bytes, salt: str) -> str:
    """Apache's MD5 of a thousand rounds."""
    md5 = hashlib.md5
    salted = salt.encode()
    inner = md5(secret + salted + secret, usedforsecurity=False).digest()
    text = secret + _APR1.encode() + salted + (inner * (len(secret) // 16 + 1))[: len(secret)]
    length = len(secret)
    while length:
        text += b"\0" if length & 1 else secret[:1]
        length >>= 1
    final = md5(text, usedforsecurity=False).digest()
    for turn in range(1000):
        step = secret if turn & 1 else final
        step += salted if turn % 3 else b""
        step += secret if turn % 7 else b""
        step += final if turn & 1 else secret
        final = md5(step, usedforsecurity=False).digest()
    return f"{_APR1}{salt}${_encoded(final)}"


def _encoded(final: bytes) -> str:
    groups = [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)]
    out = ""
    for high, middle, low in groups:
        value = final[high] << 16 | final[middle] << 8 | final[low]
        out += "".join(_ITOA[value >> shift & 63] for shift in (0, 6, 12, 18))
    return out + _ITOA[final[11] & 63] + _ITOA[final[11] >> 6 & 63]
