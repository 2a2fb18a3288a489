"""Client certificates over TLS: what is not good is answered with 401, never a broken connection, never anonymous."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tiphys.base.clock import SystemClock, utc
from tiphys.base.tls import Authority, KeyPair, client_context


def signed_by(authority: Authority, key: Any, *, common_name: str = "jane") -> KeyPair:
    ca, signer = authority._signer()
    now = utc(SystemClock().time())
    builder = x509.CertificateBuilder(
        ca.subject,
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]),
        key.public_key(),
        x509.random_serial_number(),
        now - timedelta(hours=1),
        now + timedelta(hours=1),
    ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = serialization.PrivateFormat.PKCS8
    return KeyPair(certificate, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def test_certificates_of_any_kind_of_key_log_in(start: Any) -> None:
    async def main() -> None:
        async with start() as server:
            made = {
                "ecdsa": server.authority.issue("jane", organizations=("devs",), client=True),
                "rsa": signed_by(server.authority, rsa.generate_private_key(65537, 2048)),
                "ed25519": signed_by(server.authority, ed25519.Ed25519PrivateKey.generate()),
            }
            for kind, pair in made.items():
                assert (await server.user(pair=pair))["username"] == "jane", kind

    asyncio.run(main())


def test_a_bad_certificate_is_unauthorized_even_where_anonymous_may_read(start: Any) -> None:
    async def main() -> None:
        async with start() as server:
            own = server.authority
            good = own.issue("jane", organizations=("system:masters",), client=True)
            below = Authority(good).issue("evil", organizations=("system:masters",), client=True)
            bad = {
                "of an authority with the same name": Authority.create("kubernetes").issue("jane", client=True),
                "expired": own.issue("jane", client=True, days=-0.001),
                "for servers": own.issue("jane", server=True),
                "signed by a client's own": KeyPair(below.certificate + good.certificate, below.key),
            }
            for why, pair in bad.items():
                for path in ("/version", "/healthz", "/api/v1/secrets"):
                    assert (await server.ask(path, pair=pair)).status == 401, why
            assert (await server.ask("/version")).status == 200

    asyncio.run(main())


def test_a_good_token_wins_over_a_bad_certificate(start: Any) -> None:
    async def main() -> None:
        async with start() as server:
            stranger = Authority.create("x").issue("jane", client=True)
            assert (await server.user(pair=stranger, token="plain"))["username"] == "bob"

    asyncio.run(main())


def test_front_proxies_are_believed_by_their_own_authority_only(start: Any, tmp_path: Any) -> None:
    proxies = Authority.create("front")
    (tmp_path / "front.crt").write_bytes(proxies.certificate)
    flags = (f"--requestheader-client-ca-file={tmp_path}/front.crt", "--requestheader-allowed-names=aggregator")
    says = {"X-Remote-User": "jane", "X-Remote-Group": "devs, system:masters", "X-Remote-Extra-Scopes": "a"}

    async def main() -> None:
        async with start(*flags) as server:
            proxy = proxies.issue("aggregator", client=True)
            found = await server.user(pair=proxy, headers=says)
            # One header is one group, whatever is in it.
            assert found["groups"] == ["devs, system:masters", "system:authenticated"]
            assert (found["username"], found["extra"]) == ("jane", {"scopes": ["a"]})
            assert (await server.user(pair=proxies.issue("other", client=True), headers=says))["code"] == 401
            client = server.authority.issue("bob", client=True)
            assert (await server.user(pair=client, headers=says))["username"] == "bob"
            assert (await server.user(token="plain", headers=says))["username"] == "bob"
            assert (await server.ask("/api", headers=says)).status == 403
            assert (await server.user(pair=proxy))["code"] == 401, "a proxy is no client"

    asyncio.run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_that_is_resumed_is_the_same_users(start: Any, version: ssl.TLSVersion) -> None:
    def whoami(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession]:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as sock,
        ):
            assert sock.session_reused is (session is not None)
            sock.sendall(
                b"POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            )
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
            assert sock.session is not None
            return answer, sock.session

    async def main() -> None:
        async with start() as server:
            context = client_context(server.authority.certificate, server.authority.issue("jane", client=True))
            context.maximum_version = version
            session = None
            for _ in range(3):
                answer, session = await asyncio.to_thread(whoami, server.port, context, session)
                assert b'"username":"jane"' in answer

    asyncio.run(main())
