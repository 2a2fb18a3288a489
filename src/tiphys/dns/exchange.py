"""One question to one server: by UDP from a port of its own, by TCP when the answer is cut or others try to forge it.

A forged answer must come from the server's address to the port that the kernel chose for this question alone, with
the right ID of 65,536 and the right question (RFC 5452). After a few that are wrong the question goes by TCP.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import dataclass
from typing import Protocol

from tiphys.dns import encode
from tiphys.dns.upstreams import Server
from tiphys.dns.wire import FORMERR, NOTIMP, TC, Malformed, Message, read_message

UDP_TIMEOUT = 2.0
TCP_TIMEOUT = 4.0
MAX_FORGED = 16


class NoAnswer(Exception):
    """The server did not answer, or not sensibly."""


class _Forged(Exception):
    """Too many answers that are none."""


class Sockets(Protocol):
    """Makes sockets in the network in which the servers are."""

    async def datagram(self, v6: bool) -> socket.socket:
        """A UDP socket that is not bound yet, not blocking. Raises OSError."""
        ...

    async def connection(self, server: Server) -> socket.socket:
        """A TCP connection, not blocking. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: name, type and class on the wire, in lower case where they are compared."""

    wire: bytes
    name: bytes
    type: int
    class_: int
    flags: int
    dnssec: bool

    def packet(self, id: int, edns: bool) -> bytes:
        return encode.question(id, self.wire, self.flags, edns=edns, dnssec=self.dnssec)

    def answered_by(self, data: bytes, id: int) -> Message | None:
        """The answer, if it is one to this question."""
        try:
            message = read_message(data)
        except Malformed:
            return None
        fits = message.id == id and message.question == (self.name, self.type, self.class_)
        return message if fits else None


async def ask(sockets: Sockets, server: Server, asked: Asked) -> Message:
    """Raises NoAnswer."""
    try:
        message = await _ask(sockets, server, asked, edns=True)
        if message.rcode in (FORMERR, NOTIMP) and message.edns is None:
            message = await _ask(sockets, server, asked, edns=False)  # it knows nothing of EDNS (RFC 6891, 6.2.2)
    except (OSError, TimeoutError) as error:
        raise NoAnswer(f"{server}: {error or 'no answer in time'}") from error
    return message


async def _ask(sockets: Sockets, server: Server, asked: Asked, edns: bool) -> Message:
    try:
        message = await _by_udp(sockets, server, asked, edns)
        if not message.flags & TC:
            return message
    except _Forged:
        pass
    return await _by_tcp(sockets, server, asked, edns)


async def _by_udp(sockets: Sockets, server: Server, asked: Asked, edns: bool) -> Message:
    async with asyncio.timeout(UDP_TIMEOUT):
        with await sockets.datagram(server.is_v6) as sock:
            sock.connect(address_of(sock, server))
            id = secrets.randbits(16)
            return await _Datagrams(sock, asked, id).exchange(asked.packet(id, edns))


class _Datagrams:
    """Waits for the one packet that is the answer."""

    def __init__(self, sock: socket.socket, asked: Asked, id: int) -> None:
        self._sock, self._asked, self._id = sock, asked, id
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Message] = self._loop.create_future()
        self._wrong = 0

    async def exchange(self, packet: bytes) -> Message:
        self._loop.add_reader(self._sock.fileno(), self._readable)
        try:
            self._sock.send(packet)
            return await self._answer
        finally:
            self._loop.remove_reader(self._sock.fileno())

    def _readable(self) -> None:
        if self._answer.done():
            return
        try:
            message = self._asked.answered_by(self._sock.recv(encode.MAX_MESSAGE), self._id)
        except BlockingIOError:
            return
        except OSError as error:  # nobody listens there: the kernel was told so
            self._answer.set_exception(error)
            return
        if message is not None:
            self._answer.set_result(message)
            return
        self._wrong += 1
        if self._wrong >= MAX_FORGED:
            self._answer.set_exception(_Forged())


async def _by_tcp(sockets: Sockets, server: Server, asked: Asked, edns: bool) -> Message:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(TCP_TIMEOUT):
        with await sockets.connection(server) as sock:
            id = secrets.randbits(16)
            packet = asked.packet(id, edns)
            await loop.sock_sendall(sock, len(packet).to_bytes(2, "big") + packet)
            size = int.from_bytes(await _exactly(sock, 2), "big")
            message = asked.answered_by(await _exactly(sock, size), id)
    if message is None:
        raise NoAnswer(f"{server}: not an answer to the question")
    return message


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            raise ConnectionResetError("the connection ended")
        data += more
    return data


def address_of(sock: socket.socket, server: Server) -> tuple[object, ...]:
    """What connect wants: a zone of an IPv6 address is the number of its device there."""
    if sock.family != socket.AF_INET6:
        return server.address, server.port
    host, _, zone = server.address.partition("%")
    scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone) if zone else 0
    return host, server.port, 0, scope
