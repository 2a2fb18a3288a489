"""After an upgrade: bytes both ways, each side as fast as the other takes them."""

from __future__ import annotations

from collections.abc import Callable

from tiphys.base.http.wire import HIGH_WATER, Wire


class Tunnel:
    """Couples two wires; `over` is called once when both have ended."""

    def __init__(self, client: Wire, backend: Wire, over: Callable[[], None]) -> None:
        self._over: Callable[[], None] | None = over
        self.ended = 0
        """How many sides will send no more."""
        self._sides = (_Side(self, client, backend), _Side(self, backend, client))

    def start(self, from_client: bytes, from_backend: bytes) -> None:
        """Begin with what was read already."""
        for side, early in zip(self._sides, (from_client, from_backend), strict=True):
            if early:
                side.target.write(early)
        for side in self._sides:
            side.source.adopt(side)

    def close(self) -> None:
        """End both sides; what is queued still leaves."""
        for side in self._sides:
            side.source.close()

    def side_over(self) -> None:
        over, self._over = self._over, None
        if over is not None:
            self.close()
            over()


class _Side:
    """Receiver of one wire: what it reads is written to the other."""

    def __init__(self, tunnel: Tunnel, source: Wire, target: Wire) -> None:
        self._tunnel = tunnel
        self.source = source
        self.target = target

    def connected(self) -> None:
        """Part of `wire.Receiver`; long over."""

    def received(self, data: bytes) -> None:
        self.target.send(data)
        if self.target.buffered > HIGH_WATER and (waiter := self.target.drained()) is not None:
            self.source.pause_reading()
            waiter.add_done_callback(lambda _: self.source.resume_reading())

    def ended(self) -> None:
        """TLS has no half-closed connections."""
        self._tunnel.ended += 1
        if self._tunnel.ended == 2 or self.target.tls or self.source.tls or self.target.closing:
            self._tunnel.side_over()
        else:
            self.target.write_eof()

    def lost(self, error: OSError | None) -> None:
        self._tunnel.side_over()
