"""gRPC health checks (grpc.health.v1.Health/Check): one unary call in just as much HTTP/2 as it takes (RFC 9113).

Header blocks are sent as plain literals; of the answer only DATA frames are understood, which is enough: a server
that knows the service answers with a message, one that does not ends the stream without.
"""

from __future__ import annotations

import asyncio
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 1, 4, 1, 8
_NAMES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


async def check(host: str, port: int, service: str, timeout: float) -> tuple[bool, str]:
    """(healthy, what to tell); `timeout` in seconds."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                return await _call(reader, writer, address, service)
            finally:
                writer.transport.abort()
    except TimeoutError:
        return False, f'timeout: failed to connect service "{address}" within {timeout:g}s: context deadline exceeded'
    except (OSError, asyncio.IncompleteReadError) as error:
        return False, f'error: failed to connect service at "{address}": {error}'


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, service: str
) -> tuple[bool, str]:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": address,
        "content-type": "application/grpc",
        "te": "trailers",
        "user-agent": "kube-probe/1.36",
    }
    block = b"".join(_literal(name) + _literal(value) for name, value in _prefixed(headers))
    name = service.encode()
    message = b"\x0a" + bytes([len(name)]) + name if name else b""
    writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, block))
    writer.write(_frame(_DATA, _END_STREAM, 1, struct.pack(">BI", 0, len(message)) + message))
    answer = await _answer(reader, writer)
    if answer is None:
        why = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return False, f"error: {why}"
    status = answer[6] if len(answer) > 6 and answer[5] == 0x08 else 0
    if status == 1:
        return True, "service healthy"
    return False, f'service unhealthy (responded with "{_NAMES.get(status, status)}")'


def _prefixed(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(b"\x00" + name.encode(), value.encode()) for name, value in headers.items()]


def _literal(text: bytes) -> bytes:
    """An HPACK string without Huffman coding; a name carries the literal's opcode in front."""
    opcode, text = (text[:1], text[1:]) if text[:1] == b"\x00" else (b"", text)
    return opcode + bytes([len(text)]) + text


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """The gRPC message with its 5-byte head; None when the stream ends without one."""
    data = b""
    while True:
        head = await reader.readexactly(9)
        kind, flags = head[3], head[4]
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA:
            data += payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
            if len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[1:5], "big"):
                return data
        if kind in (_RESET, _GOAWAY) or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
            return None
