"""How registries are reached: certs.d directories as containerd and docker have them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.runtime import netns
from tiphys.runtime.images import LocalImages
from tiphys.runtime.images.hosts import Endpoint, endpoints
from tiphys.runtime.types import NoSuchImage

OWN = [Endpoint("https://quay.io")]


def write(directory: Path, host: str, text: str) -> None:
    (directory / host).mkdir(parents=True)
    (directory / host / "hosts.toml").write_text(text)


def test_without_a_directory_the_registry_itself_is_asked(tmp_path: Path) -> None:
    assert endpoints("quay.io", OWN, [tmp_path, tmp_path / "none"]) == OWN


def test_mirrors_come_first_and_the_server_last(tmp_path: Path) -> None:
    write(
        tmp_path,
        "quay.io",
        """
server = "https://upstream.example"
[host."https://mirror.example/path"]
  capabilities = ["pull"]
  ca = "ca.pem"
  skip_verify = true
  [host."https://mirror.example/path".header]
    x-key = ["a", "b"]
[host."http://other.example/v2/proxy"]
  override_path = true
""",
    )
    mirror, other, server = endpoints("quay.io", OWN, [tmp_path])
    assert (mirror.url, mirror.root, mirror.namespace) == ("https://mirror.example", "/path/v2", "quay.io")
    assert not mirror.resolve
    assert not mirror.verify
    assert mirror.authorities == (tmp_path / "quay.io" / "ca.pem",)
    assert mirror.headers == {"x-key": "a, b"}
    assert (other.url, other.root, other.resolve) == ("http://other.example", "/v2/proxy", True)
    assert (server.url, server.root, server.namespace) == ("https://upstream.example", "/v2", "")


def test_without_a_server_the_registry_itself_comes_last(tmp_path: Path) -> None:
    write(tmp_path, "quay.io", '[host."http://mirror.example"]\n')
    assert [one.url for one in endpoints("quay.io", OWN, [tmp_path])] == ["http://mirror.example", "https://quay.io"]


def test_a_port_may_be_written_for_file_systems_without_colons(tmp_path: Path) -> None:
    write(tmp_path, "reg.example_5000_", 'server = "http://reg.example:5000"\n')
    assert endpoints("reg.example:5000", OWN, [tmp_path])[0].url == "http://reg.example:5000"


def test_the_default_is_for_those_without_a_directory(tmp_path: Path) -> None:
    write(tmp_path, "_default", '[host."http://cache.example"]\n')
    assert endpoints("quay.io", OWN, [tmp_path])[0].url == "http://cache.example"


def test_docker_s_directories_hold_certificates_only(tmp_path: Path) -> None:
    directory = tmp_path / "quay.io"
    directory.mkdir()
    for name in ("ca.crt", "client.cert", "client.key", "lonely.cert"):
        (directory / name).touch()
    [found] = endpoints("quay.io", OWN, [tmp_path])
    assert found.url == "https://quay.io"
    assert found.authorities == (directory / "ca.crt",)
    assert found.client == ((directory / "client.cert", directory / "client.key"),)


@pytest.mark.parametrize("text", ["= nonsense", 'host = "x"', "server = 7\n[host.x]\ncapabilities = 3\n"])
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path, "quay.io", text)
    with pytest.raises(Permanent, match=r"hosts\.toml"):
        endpoints("quay.io", OWN, [tmp_path])


def test_a_mirror_of_hosts_toml_is_asked(
    kit: Any, hello: Any, tmp_path: Path, serving: Callable[[Any], AbstractAsyncContextManager[str]]
) -> None:
    registry = kit.registry()
    registry.add("team/hello", "1", hello)

    async def run() -> None:
        async with serving(registry) as host:
            write(tmp_path / "certs.d", "reg.invalid", f'server = "http://{host}"\n')
            store = LocalImages(tmp_path / "images", certs=[tmp_path / "certs.d"])
            image = await store.pull("reg.invalid/team/hello:1")
            assert image.tags == ("reg.invalid/team/hello:1",)
            with pytest.raises(NoSuchImage) as failure:
                await store.pull("reg.invalid/none:1")
            assert str(failure.value) == (
                'failed to pull and unpack image "reg.invalid/none:1": failed to resolve reference '
                '"reg.invalid/none:1": reg.invalid/none:1: not found'
            )

    asyncio.run(run())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can enter network namespaces")
def test_localhost_is_the_node_s_before_it_is_this_machine_s(
    kit: Any, hello: Any, tmp_path: Path, serving: Callable[[Any], AbstractAsyncContextManager[str]]
) -> None:
    registry = kit.registry()
    registry.add("x", "1", hello)

    async def run() -> None:
        namespace = tmp_path / "ns"
        await asyncio.to_thread(netns.persist, namespace)
        try:
            await asyncio.to_thread(netns.loopback_up, str(namespace))
            async with serving(registry) as host:
                port = int(host.rpartition(":")[2])
                assert (
                    await LocalImages(tmp_path / "a", near=str(namespace)).pull(f"localhost:{port}/x:1")
                ).id == hello.id
                own = await asyncio.to_thread(netns.socket_in, str(namespace))
                own.bind(("127.0.0.1", port))
                own.listen()
                own.setblocking(False)
                async with asyncio.TaskGroup() as group:
                    pulling = group.create_task(LocalImages(tmp_path / "b", near=str(namespace)).pull(f"{host}/x:1"))
                    connection, _ = await asyncio.get_running_loop().sock_accept(own)
                    pulling.cancel()
                connection.close()
                own.close()
        finally:
            await asyncio.to_thread(netns.drop, namespace)

    asyncio.run(run())
