"""Certificates on disk as upstream's kubelet keeps them: PREFIX-DATE.pem, certificate and key in one file, and a link
PREFIX-current.pem to the newest."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tiphys.base.clock import Clock, utc
from tiphys.base.files import write_atomic
from tiphys.base.tls import KeyPair
from tiphys.kubelet.certificates.request import Wanted, covers, validity

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\n?", re.DOTALL)


class CertificateStore:
    """`prefix` is kubelet-client or kubelet-server."""

    def __init__(self, directory: Path, prefix: str, clock: Clock) -> None:
        self._directory = directory
        self._prefix = prefix
        self._clock = clock

    @property
    def current_file(self) -> Path:
        return self._directory / f"{self._prefix}-current.pem"

    def current(self, wanted: Wanted) -> KeyPair | None:
        """The newest, if it is still valid and has the names that are wanted."""
        try:
            pair = split(self.current_file.read_bytes())
            since, until = validity(pair.certificate)
        except (OSError, ValueError):
            return None
        return pair if since <= self._clock.time() < until and covers(pair.certificate, wanted) else None

    def put(self, pair: KeyPair) -> None:
        """Make it the current one."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = f"{utc(self._clock.time()):%Y-%m-%d-%H-%M-%S}"
        file = self._directory / f"{self._prefix}-{stamp}.pem"
        write_atomic(file, pair.certificate.rstrip() + b"\n" + pair.key)
        link = self._directory / f".{self._prefix}-current.pem"
        link.unlink(missing_ok=True)
        link.symlink_to(file.name)
        os.replace(link, self.current_file)


def split(content: bytes) -> KeyPair:
    """Certificates and key of one file. Raises ValueError when either is missing."""
    certificates: list[bytes] = []
    keys: list[bytes] = []
    for block in _BLOCK.finditer(content):
        (keys if b"PRIVATE KEY" in block[1] else certificates).append(block[0])
    if not certificates or not keys:
        raise ValueError("no certificate with its key")
    return KeyPair(b"".join(certificates), keys[0])
