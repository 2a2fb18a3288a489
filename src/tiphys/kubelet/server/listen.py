"""Serves the node API over TLS: its certificate, which is read again when its files change, and the read-only port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tiphys.base.clock import Clock
from tiphys.base.http.server import serve_on
from tiphys.base.http.types import Handler
from tiphys.base.inotify import DirectoryWatch
from tiphys.base.listening import listeners
from tiphys.base.tls import Authority, KeyPair, server_context
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.server.settings import ServerSettings

log = logging.getLogger(__name__)

_AGAIN = 5.0
"""Seconds until a port that is taken is tried again, as upstream does."""


class Certificate:
    """The TLS context of the node API. `authorities` are the client CAs as their file says at the moment."""

    def __init__(self, config: KubeletConfig, settings: ServerSettings, clock: Clock) -> None:
        self.authorities = config.client_ca.read_bytes() if config.client_ca is not None else b""
        self._authorities_file = config.client_ca
        self._files = _files(config)
        self._pair = _pair(config, self._files, clock)
        self.context = server_context(self._pair, self.authorities or None, verify_later=True)
        self.context.minimum_version = ssl.TLSVersion[settings.tls_version]
        if settings.ciphers:
            self.context.set_ciphers(":".join(settings.ciphers))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take in changes of the files until the block is left; connections that are open go on."""
        paths = (*self._files, self._authorities_file)
        with contextlib.ExitStack() as watches:
            for directory in {path.parent for path in paths if path is not None}:
                try:
                    watches.callback(DirectoryWatch(directory, self.reload).close)
                except OSError as error:  # the machine's limit of inotify instances is reached
                    log.warning("changes of %s will not be seen before the next start: %s", directory, error)
            yield

    def reload(self) -> None:
        """Read the files again; what cannot be used is said, and the old goes on."""
        try:
            if self._authorities_file is not None:
                self.authorities = self._authorities_file.read_bytes() or self.authorities
            pair = KeyPair.load(*self._files)
            if pair != self._pair:
                self.context.load_cert_chain(*self._files)
                self._pair = pair
                log.info("the node API has a new certificate")
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate of the node API cannot be read again: %s", error)


def _files(config: KubeletConfig) -> tuple[Path, Path]:
    """The certificate that was configured, or where its own is."""
    if config.tls_cert is not None and config.tls_key is not None:
        return config.tls_cert, config.tls_key
    directory = config.cert_dir or config.root_dir / "pki"
    return directory / "kubelet.crt", directory / "kubelet.key"


def _pair(config: KubeletConfig, files: tuple[Path, Path], clock: Clock) -> KeyPair:
    """What is in the files; of its own making where there is none, as upstream. Raises OSError."""
    certificate, key = files
    if config.tls_cert is None and not (certificate.exists() and key.exists()):
        authority = Authority.create(f"{config.node_name}-ca", clock=clock)
        names = (config.node_name, *config.node_ips, "127.0.0.1", "localhost")
        authority.issue(f"{config.node_name}@kubelet", names=names, server=True).save(certificate, key)
    return KeyPair.load(certificate, key)


async def listen(
    config: KubeletConfig,
    handler: Handler,
    certificate: Certificate,
    clock: Clock,
    listening: Callable[[int], None],
    own: Sequence[socket.socket] = (),
) -> None:
    """Serve until cancelled; `listening(port)` is called once connections are taken. Raises OSError.

    `own` are listening sockets to serve on, of the node's own network namespace; without them, the configured
    address."""
    sockets = own or listeners(config.address, config.port)
    with certificate.watching():
        async with contextlib.AsyncExitStack() as stack:
            for each in sockets:
                server = await stack.enter_async_context(serve_on(handler, each, tls=certificate.context, clock=clock))
            listening(server.port)
            await asyncio.Event().wait()


async def listen_plainly(address: str, port: int, handler: Handler, clock: Clock) -> None:
    """Serve what needs no identity, without TLS, until cancelled: readOnlyPort, healthzPort. As long as somebody else
    has the port, it is tried again and again."""
    told = False
    while True:
        try:
            sockets = listeners(address, port)
        except OSError as error:
            if not told:
                log.warning("nothing is served on %s:%d, trying again: %s", address, port, error)
            told = True
            await clock.sleep(_AGAIN)
            continue
        async with contextlib.AsyncExitStack() as stack:
            for each in sockets:
                await stack.enter_async_context(serve_on(handler, each, tls=None, clock=clock))
            await asyncio.Event().wait()
