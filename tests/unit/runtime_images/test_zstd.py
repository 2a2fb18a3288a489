"""Layers compressed by zstd."""

from __future__ import annotations

import ctypes
import io
import os
from typing import Any

import pytest

from tiphys.runtime.images import zstd
from tiphys.runtime.types import InvalidSpec

try:
    LIBRARY = ctypes.CDLL(zstd.LIBRARY)
except OSError:
    pytest.skip("this machine has no libzstd", allow_module_level=True)


def compressed(data: bytes) -> bytes:
    LIBRARY.ZSTD_compressBound.restype = LIBRARY.ZSTD_compress.restype = ctypes.c_size_t
    LIBRARY.ZSTD_compressBound.argtypes = (ctypes.c_size_t,)
    room = ctypes.create_string_buffer(LIBRARY.ZSTD_compressBound(len(data)))
    LIBRARY.ZSTD_compress.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
    size = LIBRARY.ZSTD_compress(room, len(room), data, len(data), 3)
    return room.raw[:size]


@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
def test_what_was_compressed_comes_back(size: int) -> None:
    data = os.urandom(size // 2) + bytes(size - size // 2)
    assert zstd.ZstdReader(io.BytesIO(compressed(data))).read() == data
    reader, parts = zstd.ZstdReader(io.BytesIO(compressed(data))), []
    while part := reader.read(777):
        parts.append(part)
    assert b"".join(parts) == data


def test_frames_follow_each_other() -> None:
    assert zstd.ZstdReader(io.BytesIO(compressed(b"one") + compressed(b"two"))).read() == b"onetwo"


def test_what_is_cut_off_or_nonsense_is_refused() -> None:
    data = compressed(os.urandom(1000))
    with pytest.raises(InvalidSpec, match="cut off"):
        zstd.ZstdReader(io.BytesIO(data[:-5])).read()
    with pytest.raises(InvalidSpec, match="zstd"):
        zstd.ZstdReader(io.BytesIO(data[:20] + b"x" * 900)).read()


def test_an_image_with_a_zstd_layer_is_loaded(kit: Any, tmp_path: Any) -> None:
    from tiphys.runtime.images.content import decompress

    layer = kit.tar(kit.entry("file", b"content"))
    assert decompress(io.BytesIO(compressed(layer))).read() == layer
