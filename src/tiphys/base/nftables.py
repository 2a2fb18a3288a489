"""nftables by libnftables, called through ctypes: transactions as text in, nothing to start, no `nft` program.

A context belongs for ever to the network namespace in which it was made, like a socket; calls come from anywhere.
Name devices by `iifname` and `oifname`: the library looks `iif` and `oif` up where the caller is.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import threading
from collections.abc import Callable
from typing import Any, Self

import orjson

LIBRARY = "libnftables.so.1"
PACKAGE = "libnftables1"

_JSON, _STATELESS, _NUMERIC = 1 << 4, 1 << 2, 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10
"""NFT_CTX_OUTPUT_JSON, _STATELESS (no counters' values) and _NUMERIC_* of protocols, priorities, symbols and times."""

_LARGE = 1 << 15
"""Characters of a transaction or of an answer for which much memory is needed."""

Enter = Callable[[Callable[[], int]], int]
"""Does work inside a network namespace, as `lambda work: netns.inside(path, work)`."""

_lock = threading.Lock()
"""The library keeps a cache of devices and the parser's symbols for the whole process."""

_CODES = {os.strerror(code): code for code in errno.errorcode}


class NftablesError(OSError):
    """The library's message is `strerror`; `errno` is the kernel's answer, EINVAL for text that cannot be read."""


@functools.cache
def _library(name: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise NftablesError(
            errno.ENOPKG, f"{name} cannot be loaded: install the package {PACKAGE} ({error})"
        ) from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_free.restype = None
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_ctx_output_set_flags.restype = None
    for function in (library.nft_ctx_buffer_output, library.nft_ctx_buffer_error):
        function.argtypes = [ctypes.c_void_p]
    for function in (library.nft_ctx_get_output_buffer, library.nft_ctx_get_error_buffer):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


class Nftables:
    """The firewall of one network namespace: that which `enter` enters, else this process's own.

    Safe among threads: one call at a time in the whole process, without Python's lock, so that others go on meanwhile.
    Raises NftablesError when the library is missing or cannot reach the kernel.
    """

    def __init__(self, enter: Enter | None = None, library: str = LIBRARY) -> None:
        self._library = _library(library)
        with _lock:
            self._context = enter(self._open) if enter else self._open()

    def _open(self) -> int:
        context: int | None = self._library.nft_ctx_new(0)
        if not context:
            raise NftablesError(errno.ENOMEM, "nftables: no context can be made")
        self._library.nft_ctx_buffer_output(context)
        self._library.nft_ctx_buffer_error(context)
        return context

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the context; what is in the kernel stays."""
        with _lock:
            if self._context:
                self._library.nft_ctx_free(self._context)
            self._context = 0

    def run(self, commands: str) -> str:
        """Carry out nft(8) commands as one transaction, all or nothing; returns what they print.

        Raises NftablesError with the library's message. It blocks for the time that the kernel takes.
        """
        return self._call(commands, 0).decode()

    def list_json(self, command: str) -> list[dict[str, Any]]:
        """What e.g. "list table inet NAME" says, as libnftables-json(5) writes it, without its first entry (versions).

        Numbers instead of names, and no counters' values. Raises NftablesError; ENOENT when there is none."""
        entries: list[dict[str, Any]] = orjson.loads(self._call(command, _JSON | _STATELESS | _NUMERIC))["nftables"]
        return entries[1:]

    def _call(self, commands: str, flags: int) -> bytes:
        with _lock:
            if not self._context:
                raise NftablesError(errno.EBADF, "nftables: closed")
            self._library.nft_ctx_output_set_flags(self._context, flags)
            failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            # Both buffers are emptied by being read.
            said: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
            output: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
            if len(commands) + len(output) > _LARGE:
                _give_back()
        if failed:
            raise _error(said.decode(errors="replace"))
        return output


def _give_back() -> None:
    """Hand freed memory back to the machine: a thousand Services take 20 MB of the library, and glibc keeps them."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def absence(library: str = LIBRARY) -> str:
    """Why there is no library; "" when there is one."""
    try:
        _library(library)
    except NftablesError as error:
        return str(error.strerror)
    return ""


def _error(said: str) -> NftablesError:
    """The error of the library's words: a line such as "Error: Could not process rule: File exists", then the text."""
    lines = said.strip().splitlines() or ["refused without a reason"]
    message = lines[0] if len(lines) == 1 else f"{lines[0]} in {lines[1][:200].strip()!r}"
    return NftablesError(_CODES.get(lines[0].rpartition(": ")[2], errno.EINVAL), f"nftables: {message}")
