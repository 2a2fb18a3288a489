"""The SPDY side's handshake: Upgrade: SPDY/3.1 with X-Stream-Protocol-Version (KEP-4006 tells its history)."""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.base.http.types import Request, Response, Upgrade

VERSION = "X-Stream-Protocol-Version"
ACCEPTED = "X-Accepted-Stream-Protocol-Versions"
SPDY = "SPDY/3.1"


def refuse(status: int, message: str, accepted: Sequence[str] = ()) -> Response:
    """Plain text, which is what clients of a failed upgrade print."""
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    if accepted:
        headers[ACCEPTED] = ", ".join(accepted)
    return Response(status, headers, f"{message}\n".encode())


def negotiate(request: Request, supported: Sequence[str]) -> str | Response:
    """The protocol version both sides speak, or the response that refuses."""
    value = request.headers.get(VERSION.lower())
    if value is None:
        count = len(request.headers)
        return refuse(400, f"unable to upgrade: header {VERSION} does not exist in request with {count} headers")
    offers = [name.strip() for name in value.split(",") if name.strip()]
    chosen = next((name for name in offers if name in supported), None)
    if chosen is None:
        sides = f"client supports [{' '.join(offers)}], server accepts [{' '.join(supported)}]"
        return refuse(403, f"unable to upgrade: unable to negotiate protocol: {sides}", supported)
    offered = request.headers.get("upgrade", "").lower()
    if "upgrade" not in request.headers.get("connection", "").lower() or SPDY.lower() not in offered:
        return refuse(400, "unable to upgrade: missing upgrade headers in request")
    return chosen


def switch(protocol: str, upgrade: Upgrade) -> Response:
    """101, and from there on SPDY."""
    return Response(101, {"Connection": "Upgrade", "Upgrade": SPDY, VERSION: protocol}, upgrade=upgrade)
