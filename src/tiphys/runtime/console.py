"""A container's streams inside its shim: output to the log and to whoever is attached, input from them.

Nothing is buffered without bound: while an attached client does not take what it was sent, the container's output
is not read, so the container waits as it would for a slow terminal; while the container does not read its input,
clients are not read.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import struct
import termios

from tiphys.runtime import protocol
from tiphys.runtime.logs import LineSplitter, LogWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tiphys.runtime.shim import Shim

CHUNK = 32 * 1024
TIOCGPTPEER = 0x5441


class Client:
    """One connection: a controller, or attached to the streams."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.descriptor = connection.fileno()
        self.decoder = protocol.Decoder()
        self.attached = False
        self.pending = b""


class Streams:
    """The container's ends of stdin, stdout, stderr (or its terminal), the log, and the clients."""

    def __init__(self, bundle: dict[str, Any], stdin: int, outputs: dict[int, int]) -> None:
        self.bundle = bundle
        self.stdin = stdin
        self.outputs = outputs
        self.terminal = -1
        self.keeper = -1
        """The terminal's other side, held open so that it never hangs up while the container may open it again."""
        self.clients: dict[int, Client] = {}
        log = bundle["log_path"]
        self.writer = LogWriter(log, bundle["log_max_bytes"], bundle["log_max_files"]) if log else None
        self.splitters: dict[int, LineSplitter] = {}
        self.input_pending = b""
        self.ending_input = False
        self.paused = False
        self.shim: Shim

    @classmethod
    def prepare(cls, bundle: dict[str, Any]) -> tuple[Streams, list[int]]:
        """Make the pipes; returns the shim's side and the child's three descriptors (-1: none)."""
        if bundle["tty"]:
            return cls(bundle, -1, {}), [-1, -1, -1]
        read_in, write_in = os.pipe() if bundle["stdin"] else (-1, -1)
        read_out, write_out = os.pipe()
        read_err, write_err = os.pipe()
        return cls(bundle, write_in, {protocol.STDOUT: read_out, protocol.STDERR: read_err}), [
            read_in,
            write_out,
            write_err,
        ]

    def start(self, shim: Shim) -> None:
        """Begin to relay, in the shim's loop."""
        self.shim = shim
        if self.terminal >= 0:
            self.keeper = fcntl.ioctl(self.terminal, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            self.outputs = {protocol.STDOUT: self.terminal}
            if self.bundle["stdin"]:
                self.stdin = self.terminal
        if self.writer is not None:
            for kind in self.outputs:
                self.splitters[kind] = LineSplitter(self.writer, "stdout" if kind == protocol.STDOUT else "stderr")
        for descriptor in {self.stdin, *self.outputs.values()} - {-1}:
            os.set_blocking(descriptor, False)
        self._watch_outputs()

    # output

    def open_outputs(self) -> bool:
        """Whether the container may still write something."""
        return bool(self.outputs)

    def _watch_outputs(self) -> None:
        for kind, descriptor in self.outputs.items():
            self._watch(kind, descriptor)

    def _watch(self, kind: int, descriptor: int) -> None:
        events = 0 if self.paused else select.EPOLLIN
        if descriptor == self.stdin and self.input_pending:
            events |= select.EPOLLOUT
        if events:
            self.shim.watch(descriptor, events, lambda ready: self._terminal_or_output(kind, descriptor, ready))
        else:  # epoll reports a hang-up even when nothing is asked for: it would spin
            self.shim.unwatch(descriptor)

    def _terminal_or_output(self, kind: int, descriptor: int, ready: int) -> None:
        if ready & select.EPOLLOUT:
            self._write_input()
        if ready & ~select.EPOLLOUT and not self.paused:
            self._read(kind, descriptor)

    def _read(self, kind: int, descriptor: int) -> None:
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # what a terminal says when its other side is closed
                raise
            data = b""
        if not data:
            self._end_output(kind, descriptor)
            return
        if kind in self.splitters:
            self.splitters[kind].feed(data)
        frame = protocol.frame(kind, data)
        for client in [client for client in self.clients.values() if client.attached]:
            self._send(client, frame)

    def _end_output(self, kind: int, descriptor: int) -> None:
        self.shim.unwatch(descriptor)
        del self.outputs[kind]
        if descriptor == self.stdin:
            self.stdin = -1
        os.close(descriptor)
        if kind in self.splitters:
            self.splitters.pop(kind).close()

    def ended(self) -> None:
        """The container has ended: read what is left, whoever is slow; then the outputs close by themselves."""
        if self.keeper >= 0:
            os.close(self.keeper)
            self.keeper = -1
        self._repause()

    def finish(self) -> None:
        """Close the log."""
        if self.writer is not None:
            self.writer.close()

    def reopen_log(self) -> None:
        """The log file was renamed by someone else."""
        if self.writer is not None:
            self.writer.reopen()

    def log_error(self) -> str:
        """What kept output from the log, with the number of bytes; "" if all is there."""
        if self.writer is None or not self.writer.dropped:
            return ""
        return f"{self.writer.dropped} bytes of output not logged: {self.writer.error}"

    # clients

    def connect(self, connection: socket.socket) -> None:
        """Take a new connection."""
        connection.setblocking(False)
        client = Client(connection)
        self.clients[client.descriptor] = client
        self._watch_client(client)

    def tell(self, descriptor: int, content: dict[str, Any]) -> None:
        """Send a message to one connection."""
        self._send(self.clients[descriptor], protocol.message(content))

    def broadcast(self, data: bytes) -> None:
        """Send a message to every connection."""
        for client in list(self.clients.values()):
            self._send(client, data)

    def undelivered(self) -> bool:
        """Whether an attached client has not yet got everything."""
        return any(client.pending for client in self.clients.values())

    def _watch_client(self, client: Client) -> None:
        events = select.EPOLLOUT if client.pending else 0
        if not self.input_pending or not client.attached:
            events |= select.EPOLLIN
        self.shim.watch(client.descriptor, events, lambda ready: self._client_ready(client, ready))

    def _client_ready(self, client: Client, ready: int) -> None:
        if ready & select.EPOLLOUT:
            self._send(client, b"")
        if ready & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive(client)

    def _send(self, client: Client, data: bytes) -> None:
        client.pending += data
        try:
            sent = client.socket.send(client.pending, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._disconnect(client)
            return
        client.pending = client.pending[sent:]
        self._watch_client(client)
        self._repause()

    def _repause(self) -> None:
        paused = not self.shim.exited and any(client.pending for client in self.clients.values())
        if paused != self.paused:
            self.paused = paused
            self._watch_outputs()

    def _disconnect(self, client: Client) -> None:
        if self.clients.pop(client.descriptor, None) is None:
            return
        self.shim.unwatch(client.descriptor)
        client.socket.close()
        if client.attached and self.bundle["stdin_once"]:
            self._end_input()
        self._repause()

    def _receive(self, client: Client) -> None:
        try:
            data = client.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect(client)
            return
        for kind, payload in client.decoder.feed(data):
            self._handle(client, kind, payload)

    def _handle(self, client: Client, kind: int, payload: bytes) -> None:
        if kind == protocol.STDIN:
            self.input_pending += payload
            self._write_input()
        elif kind == protocol.STDIN_END:
            if self.bundle["stdin_once"]:
                self._end_input()
        else:
            request = json.loads(payload)
            if request["op"] == "attach":
                client.attached = True
            elif request["op"] == "resize":
                self._resize(request["width"], request["height"])
            else:
                self.shim.command(request)

    # input

    def _resize(self, width: int, height: int) -> None:
        if self.terminal >= 0 and self.outputs:
            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _end_input(self) -> None:
        self.ending_input = True
        self._write_input()

    def _write_input(self) -> None:
        if self.stdin < 0:
            self.input_pending = b""
            return
        try:
            written = os.write(self.stdin, self.input_pending) if self.input_pending else 0
        except BlockingIOError:
            written = 0
        except OSError:  # the container has closed its stdin
            self._close_input()
            return
        self.input_pending = self.input_pending[written:]
        if not self.input_pending and self.ending_input:
            self._close_input()
            return
        self._rewatch_input()

    def _rewatch_input(self) -> None:
        if self.stdin == self.terminal:
            self._watch_outputs()
        elif self.input_pending:
            self.shim.watch(self.stdin, select.EPOLLOUT, lambda _: self._write_input())
        else:
            self.shim.unwatch(self.stdin)
        for client in list(self.clients.values()):
            self._watch_client(client)

    def _close_input(self) -> None:
        self.input_pending = b""
        if self.stdin >= 0 and self.stdin != self.terminal:
            self.shim.unwatch(self.stdin)
            os.close(self.stdin)
            self.stdin = -1
        for client in list(self.clients.values()):
            self._watch_client(client)
