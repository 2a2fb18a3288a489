"""Listening sockets of an address, of all addresses."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest

from tiphys.base import listening


def test_an_address_has_one_socket() -> None:
    for address in ("127.0.0.1", "::1"):
        (made,) = listening.listeners(address, 0)
        with made:
            assert made.getsockname()[0] == address
            socket.create_connection(made.getsockname()[:2], timeout=5).close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_unspecified_address_is_that_of_both_versions(host: str) -> None:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(each) for each in listening.listeners(host, 0)]
        (port,) = {each.getsockname()[1] for each in made}
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port), timeout=5) as peer:
                own = next(each for each in made if each.family == peer.family)
                taken, found = own.accept()
                taken.close()
                assert found[0] == address


def test_a_machine_without_ipv6_has_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.create_server

    def without(address: tuple[str, int], **settings: object) -> socket.socket:
        if ":" in address[0]:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(address)

    monkeypatch.setattr(socket, "create_server", without)
    (made,) = listening.listeners("::", 0)
    with made:
        assert made.family == socket.AF_INET
