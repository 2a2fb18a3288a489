"""The certificate of the node API: made when there is none, read again when its files change, and TLS as configured."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from tiphys.base.clock import SystemClock
from tiphys.base.errors import Permanent
from tiphys.base.http.types import Request, Response
from tiphys.base.tls import Authority
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.server import settings
from tiphys.kubelet.server.listen import Certificate, listen

CLOCK = SystemClock()


async def answer(request: Request) -> Response:
    return Response(200, {}, b"ok")


def config(root: Path, *, files: bool) -> KubeletConfig:
    made = KubeletConfig("node-1", root, address="127.0.0.1", port=0)
    if not files:
        return made
    from dataclasses import replace

    return replace(made, tls_cert=root / "tls.crt", tls_key=root / "tls.key")


def issue(root: Path, name: str) -> None:
    pair = Authority.create("ca", clock=CLOCK).issue(name, names=("127.0.0.1",), server=True)
    pair.save(root / "tls.crt", root / "tls.key")


def client(**limits: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, version in limits.items():
        setattr(context, name, version)
    return context


async def shown(port: int, context: ssl.SSLContext) -> tuple[bytes, tuple[str, str, int]]:
    """The certificate that the server presents, and the cipher."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object")
    result = found.getpeercert(binary_form=True), found.cipher()
    writer.close()
    return result


def served(configuration: KubeletConfig, scenario: object, **fields: object) -> None:
    async def main() -> None:
        chosen = settings.of(fields)
        certificate = Certificate(configuration, chosen, CLOCK)
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(listen(configuration, answer, certificate, CLOCK, port.set_result))
            await scenario(await port)  # type: ignore[operator]  # a coroutine function
            serving.cancel()

    asyncio.run(main())


def test_a_certificate_is_made_once_where_none_is_configured(tmp_path: Path) -> None:
    found: list[bytes] = []

    async def scenario(port: int) -> None:
        found.append((await shown(port, client()))[0])

    for _ in range(2):
        served(config(tmp_path, files=False), scenario)
    assert found[0] == found[1]
    assert (tmp_path / "pki" / "kubelet.crt").exists()


def test_a_new_certificate_is_presented_as_soon_as_it_is_there(tmp_path: Path) -> None:
    issue(tmp_path, "old")

    async def scenario(port: int) -> None:
        old, _ = await shown(port, client())
        issue(tmp_path, "new")
        async with asyncio.timeout(20):
            while (await shown(port, client()))[0] == old:
                await CLOCK.sleep(0.05)

    served(config(tmp_path, files=True), scenario)


def test_a_certificate_that_cannot_be_read_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    issue(tmp_path, "server")
    certificate = Certificate(config(tmp_path, files=True), settings.of({}), CLOCK)
    (tmp_path / "tls.crt").write_text("rubbish")
    certificate.reload()
    assert "cannot be read again" in caplog.text


def test_versions_and_ciphers_are_those_of_the_configuration(tmp_path: Path) -> None:
    issue(tmp_path, "server")
    old = client(maximum_version=ssl.TLSVersion.TLSv1_2)

    async def only_new(port: int) -> None:
        with pytest.raises(ssl.SSLError):
            await shown(port, old)
        assert (await shown(port, client()))[1][1] == "TLSv1.3"

    async def one_cipher(port: int) -> None:
        assert (await shown(port, old))[1][0] == "ECDHE-ECDSA-AES256-GCM-SHA384"

    served(config(tmp_path, files=True), only_new, tlsMinVersion="VersionTLS13")
    served(config(tmp_path, files=True), one_cipher, tlsCipherSuites=["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"])
    with pytest.raises(Permanent):
        settings.of({"tlsCipherSuites": ["NONE"]})
