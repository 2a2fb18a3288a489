"""Sockets to name servers outside: in the host's network, also where this process has left it (rootless mode)."""

from __future__ import annotations

import asyncio
import socket

from tiphys.base import outside
from tiphys.dns.exchange import address_of
from tiphys.dns.upstreams import Server


class HostSockets:
    """`exchange.Sockets` of the machine's own network."""

    async def datagram(self, v6: bool) -> socket.socket:
        if not outside.agent():
            return socket.socket(_family(v6), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        anywhere = "::" if v6 else "0.0.0.0"  # noqa: S104 - any source address; it is connected to one server
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(None, outside.listener, anywhere, 0, socket.SOCK_DGRAM)
        made.setblocking(False)
        return made

    async def connection(self, server: Server) -> socket.socket:
        if outside.agent():
            return await outside.connection(server.address, server.port)
        made = socket.socket(_family(server.is_v6), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(made, address_of(made, server))
        except BaseException:
            made.close()
            raise
        return made


def _family(v6: bool) -> socket.AddressFamily:
    return socket.AF_INET6 if v6 else socket.AF_INET
