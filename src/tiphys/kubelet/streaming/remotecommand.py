"""exec and attach: picks the carrier, then runs the session."""

from __future__ import annotations

from tiphys.base.errors import ApiError
from tiphys.base.http import websocket
from tiphys.base.http.types import Duplex, Request, Response, is_websocket
from tiphys.kubelet.streaming import channels, session, streams
from tiphys.kubelet.streaming.handshake import negotiate, refuse, switch


def serve_session(
    request: Request,
    open_session: session.OpenSession,
    *,
    tty: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    detaches: bool = False,
) -> Response:
    """The response that upgrades and runs a session.

    `open_session` starts the exec or the attachment after the handshake; its TiphysError becomes the status that the
    client prints. The flags are the streams asked for; with `tty`, stderr comes with stdout; with `detaches`, the
    session ends when the client's input does. WebSocket (channel
    protocols v5, v4, v1 and base64) and SPDY (v4 to v1), as kubectl and the client libraries speak them.
    """
    if not (stdin or stdout or stderr):
        return refuse(400, "you must specify at least 1 of stdin, stdout, stderr")
    verb = "attaching to" if "/attach" in request.path else "executing command in"
    options = session.Options(tty, stdin, stdout, stderr and not tty, verb, detaches)
    if is_websocket(request):
        return _over_websocket(request, open_session, options)
    chosen = negotiate(request, tuple(streams.VERSIONS))
    if isinstance(chosen, Response):
        return chosen

    async def run(duplex: Duplex) -> None:
        await streams.serve(duplex, streams.VERSIONS[chosen], open_session, options)

    return switch(chosen, run)


def _over_websocket(request: Request, open_session: session.OpenSession, options: session.Options) -> Response:
    async def run(socket: websocket.WebSocket) -> None:
        front = channels.ChannelFront(socket)
        await front.greet(options.stdout, options.stderr)
        await session.run(front, open_session, options)

    try:
        return websocket.accept(request, tuple(channels.VERSIONS), run)
    except ApiError as error:
        return refuse(error.code, error.message)
