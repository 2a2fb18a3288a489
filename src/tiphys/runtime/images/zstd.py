"""Decompression of zstd: by Python's own module where it has one (3.14), else by the system's libzstd.

Source: zstd.h (ZSTD_decompressStream).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import IO, Any, Protocol

from tiphys.runtime.types import InvalidSpec

LIBRARY = "libzstd.so.1"
WINDOW_LOG_MAX = 27
"""128 MiB: what decompressors accept unless told otherwise."""
_PARAMETER_WINDOW_LOG_MAX = 100


class Source(Protocol):
    def read(self, size: int = -1) -> bytes: ...


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t))


@cache
def _library() -> Any:
    library = ctypes.CDLL(LIBRARY)
    library.ZSTD_createDCtx.restype = ctypes.c_void_p
    library.ZSTD_freeDCtx.argtypes = (ctypes.c_void_p,)
    library.ZSTD_DCtx_setParameter.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    library.ZSTD_decompressStream.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer))
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library


class ZstdReader:
    """Reads `source` uncompressed, frame after frame. Raises InvalidSpec for what is not zstd, or is cut off."""

    CHUNK = 1 << 17

    def __init__(self, source: Source) -> None:
        self._source = source
        self._library = _library()
        self._context = self._library.ZSTD_createDCtx()
        self._library.ZSTD_DCtx_setParameter(self._context, _PARAMETER_WINDOW_LOG_MAX, WINDOW_LOG_MAX)
        self._room = ctypes.create_string_buffer(self.CHUNK)
        self._given = ctypes.create_string_buffer(b"", 1)
        self._input = _Buffer(ctypes.addressof(self._given), 0, 0)
        self._ready = b""
        self._within_frame = False

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.ZSTD_freeDCtx(self._context)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, all for a negative one; b"" at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(self.CHUNK), b""))
        parts: list[bytes] = []
        while size > 0 and (self._ready or self._fill()):
            part, self._ready = self._ready[:size], self._ready[size:]
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _fill(self) -> bool:
        """Make some output; False at the end."""
        while True:
            if self._input.position == self._input.size and not self._feed():
                return False
            output = _Buffer(ctypes.addressof(self._room), self.CHUNK, 0)
            left = self._library.ZSTD_decompressStream(self._context, ctypes.byref(output), ctypes.byref(self._input))
            if self._library.ZSTD_isError(left):
                raise InvalidSpec(f"a layer cannot be read: zstd: {self._library.ZSTD_getErrorName(left).decode()}")
            self._within_frame = left != 0
            if output.position:
                self._ready = self._room.raw[: output.position]
                return True

    def _feed(self) -> bool:
        data = self._source.read(self.CHUNK)
        if not data:
            if self._within_frame:
                raise InvalidSpec("a layer cannot be read: zstd: the data is cut off")
            return False
        self._given = ctypes.create_string_buffer(data, len(data))
        self._input = _Buffer(ctypes.addressof(self._given), len(data), 0)
        return True


def opener() -> Callable[[Any], IO[bytes]]:
    """What makes a reader of a compressed stream. Raises InvalidSpec where nothing can."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # from Python 3.14 on
    except ImportError:
        pass
    else:
        return zstd.ZstdFile  # type: ignore[no-any-return, unused-ignore]
    try:
        _library()
    except OSError as error:
        raise InvalidSpec(f"the layer is compressed by zstd, which needs Python 3.14 or {LIBRARY}: {error}") from error
    return ZstdReader  # type: ignore[return-value]  # only read() is used
