"""Server contexts that ask for a client certificate and take any: who serves says afterwards what it is worth.

OpenSSL ends the handshake for a certificate that its context does not trust, and a client learns nothing. Kubernetes
answers 401 instead: it verifies at each request (`base.certificates`), which also sees a certificate expire while its
connection lasts. Python has no name for that mode, so a verify callback that always agrees is set by ctypes; SSL_CTX
is the first field of CPython's SSLContext. A transport never calls such a certificate verified: it is in
`Peer.presented`, and `Peer.certificate` is None.
"""

from __future__ import annotations

import ctypes
import logging
import ssl
import sys
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

_SSL_VERIFY_PEER = 1
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


def _go_on(verified: int, store: int | None) -> int:
    """OpenSSL's verify_callback(3): 1 goes on with the handshake, whatever was found."""
    return 1


_agree = _Callback(_go_on)
"""Lives as long as the module: OpenSSL keeps only its address."""


class RequestingContext(ssl.SSLContext):
    """See the module's docstring. Certificates of its connections are presented, not verified."""


def request_certificates(context: ssl.SSLContext, names_file: str) -> bool:
    """Make `context` ask for certificates and take any. `names_file` is a PEM file of the authorities to name to
    clients. False where OpenSSL cannot be reached: then nothing has changed."""
    library = _library()
    if library is None:
        return False
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    context.verify_mode = ssl.CERT_OPTIONAL
    library.SSL_CTX_set_verify(pointer, _SSL_VERIFY_PEER, _agree)
    names = library.SSL_load_client_CA_file(names_file.encode())
    if names:
        library.SSL_CTX_set_client_CA_list(pointer, names)  # the context owns them from now on
    return True


def _library() -> Any:
    """The OpenSSL that Python's ssl module uses; None if this is another Python, or its symbols are hidden."""
    if sys.implementation.name != "cpython":
        return None
    import _ssl

    try:
        library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        library.SSL_CTX_set_verify.argtypes = [ctypes.c_void_p, ctypes.c_int, _Callback]
        library.SSL_CTX_set_verify.restype = None
        library.SSL_load_client_CA_file.argtypes = [ctypes.c_char_p]
        library.SSL_load_client_CA_file.restype = ctypes.c_void_p
        library.SSL_CTX_set_client_CA_list.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.SSL_CTX_set_client_CA_list.restype = None
    except (OSError, AttributeError) as error:
        log.warning("client certificates of unknown authorities end the TLS handshake: %s", error)
        return None
    return library


def presented(sock: ssl.SSLSocket) -> tuple[bytes, ...]:
    """The certificates that the peer sent, its own first, in DER; unverified."""
    own = sock.getpeercert(binary_form=True)
    if own is None:
        return ()
    # A session that is resumed remembers this one, but not those that came with it.
    return (own, *(each for each in _sent(sock) if each != own))


def _sent(sock: ssl.SSLSocket) -> tuple[bytes, ...]:
    chain: Callable[[], list[Any]] | None = getattr(sock, "get_unverified_chain", None)  # from Python 3.13 on
    if chain is not None:
        return tuple(chain())
    import _ssl

    inner: Any = sock._sslobj  # type: ignore[attr-defined]  # Python before 3.13 has the call only there
    return tuple(each.public_bytes(_ssl.ENCODING_DER) for each in inner.get_unverified_chain() or ())
