"""The CRI client: against a runtime in memory over a real socket, and its pure parts alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cri_server import FakeCri
from tiphys.base.clock import SystemClock
from tiphys.base.http.spdy import SpdyConnection, SpdyStream
from tiphys.runtime.cri import convert, protocol, rotation
from tiphys.runtime.cri.client import CriRuntime, open_cri, socket_path
from tiphys.runtime.cri.sessions import CriSession, exit_code
from tiphys.runtime.types import (
    ContainerEvent,
    ContainerSpec,
    Credential,
    InvalidSpec,
    Mount,
    NoSuchContainer,
    NoSuchImage,
    Resources,
    RuntimeFailure,
    SandboxSpec,
    Security,
    State,
)

BOX = SandboxSpec("own-box", hostname="h", labels={"io.kubernetes.pod.name": "p", "io.kubernetes.pod.uid": "u"})


def run(path: Path, work: Callable[[CriRuntime, FakeCri], Awaitable[None]], *, tells: bool = True) -> None:
    async def main() -> None:
        fake = FakeCri(path / "cri.sock", tells=tells)
        async with fake.serving():
            runtime = await open_cri(f"unix://{fake.path}", SystemClock())
            try:
                await work(runtime, fake)
            finally:
                await runtime.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_container_goes_through_its_life(tmp_path: Path) -> None:
    async def work(runtime: CriRuntime, fake: FakeCri) -> None:
        info = await runtime.info()
        assert (info.name, info.version, info.problems) == ("fake", "9", ())
        assert [(one.name, one.recursive_readonly_mounts, one.user_namespaces) for one in info.handlers] == [
            ("kata", True, False)
        ]
        box = await runtime.create_sandbox(BOX)
        assert (box.spec.id, box.ips, box.state) == ("box-1", ("10.0.0.1", "fd00::1"), State.RUNNING)
        assert (await runtime.create_sandbox(BOX)).spec.id == "box-1"
        await runtime.create_container(ContainerSpec("own", "box-1", "sha256:1", ("sleep",), labels={"k": "v"}))
        status = await runtime.start_container("own")
        assert (status.spec.id, status.state, status.identity) == ("run-2", State.RUNNING, (7, 8, (8,)))
        assert status.spec.labels == {"k": "v", "tiphys.io/runtime": "fake"}
        assert (status.spec.argv, status.spec.sandbox) == (("sleep",), "box-1")
        result = await runtime.exec_sync("own", ["a", "b"], 1)
        assert (result.exit_code, result.stdout, result.stderr) == (3, b"a b", b"e")
        assert (await runtime.exec_sync("run-2", ["slow"], 1)).timed_out
        await runtime.update("own", Resources(memory_limit=64))
        assert fake.updates[0]["memory_limit_in_bytes"] == 64
        ended = await runtime.stop_container("own", 1)
        assert (ended.state, ended.exit_code, ended.signal, ended.finished_at) == (State.EXITED, 137, 9, 3.0)
        await runtime.remove_container("own")
        await runtime.remove_container("run-2")
        with pytest.raises(NoSuchContainer):
            await runtime.container("run-2")
        await runtime.remove_sandbox("own-box")
        await runtime.remove_sandbox("own-box")
        assert fake.boxes == {}

    run(tmp_path, work)


def test_a_new_client_finds_what_the_old_one_made_and_nothing_else(tmp_path: Path) -> None:
    async def work(runtime: CriRuntime, fake: FakeCri) -> None:
        await runtime.create_sandbox(BOX)
        await runtime.create_container(ContainerSpec("own", "own-box", "sha256:1", ("exit", "4")))
        await runtime.start_container("own")
        foreign = {"metadata": {"name": "x"}, "labels": {"a": "b"}}
        fake.boxes["foreign"] = {"config": {"annotations": {}, **foreign}, "state": 0}
        other = await open_cri(str(fake.path), SystemClock())
        try:
            assert [one.spec.labels for one in await other.sandboxes()] == [BOX.labels]
            [found] = await other.containers()
            assert (found.spec.id, found.exit_code, found.spec.argv) == ("run-2", 4, ("exit", "4"))
            await other.create_container(ContainerSpec("own", "box-1", "sha256:1", ("sleep",)))
            assert list(fake.runs) == ["run-3"]
        finally:
            await other.close()

    run(tmp_path, work)


@pytest.mark.parametrize("tells", [True, False])
def test_changes_are_told(tells: bool, tmp_path: Path) -> None:
    async def work(runtime: CriRuntime, fake: FakeCri) -> None:
        seen: list[ContainerEvent] = []
        await runtime.create_sandbox(BOX)

        async def follow() -> None:
            async for event in runtime.events():
                seen.append(event)
                if event.state is State.EXITED:
                    return

        async with asyncio.TaskGroup() as group:
            following = group.create_task(follow())
            await asyncio.wait([following], timeout=0.1)
            await runtime.create_container(ContainerSpec("own", "own-box", "sha256:1", ("exit", "0")))
            await runtime.start_container("own")
        assert seen[-1] == ContainerEvent("box-1", "run-2", State.EXITED)

    run(tmp_path, work, tells=tells)


def test_a_log_that_has_grown_is_rotated(tmp_path: Path) -> None:
    async def work(runtime: CriRuntime, fake: FakeCri) -> None:
        path = tmp_path / "logs" / "0.log"
        spec = ContainerSpec(
            "own", "own-box", "sha256:1", ("sleep",), log_path=str(path), log_max_bytes=3, log_max_files=3
        )
        await runtime.create_sandbox(BOX)
        await runtime.create_container(spec)
        await runtime.start_container("own")
        for text in ("first", "second", "third"):
            path.write_text(text)
            [grown] = rotation.due(await runtime.containers())
            await runtime._rotate(grown.spec.id, grown.spec.log_path, grown.spec.log_max_files)
        path.write_text("new")
        assert rotation.due(await runtime.containers()) == []
        assert fake.reopened == ["run-2"] * 3
        assert {one.name: one.read_text() for one in path.parent.iterdir()} == {
            "0.log": "new", "0.log.1": "third", "0.log.2": "second",
        }  # fmt: skip
        fake.runs["run-2"]["deaf"] = True
        path.write_text("keeps growing")
        with pytest.raises(RuntimeFailure):
            await runtime._rotate("run-2", str(path), 3)
        assert path.read_text() == "keeps growing"

    run(tmp_path, work)


def test_failures_keep_the_runtimes_words(tmp_path: Path) -> None:
    async def work(runtime: CriRuntime, fake: FakeCri) -> None:
        await runtime.create_sandbox(BOX)
        await runtime.create_container(ContainerSpec("own", "own-box", "sha256:1", ("fail",)))
        with pytest.raises(RuntimeFailure, match="rpc error: code = Unknown desc = no such program"):
            await runtime.start_container("own")
        status = await runtime.container("own")
        assert (status.state, status.exit_code, status.error) == (State.EXITED, 128, "no such program")
        fake.network_ready = False
        expected = "container runtime network not ready: NetworkReady=false reason:NoPlugin message:none"
        assert (await runtime.info()).problems == (expected,)

    run(tmp_path, work)


def test_images_are_pulled_with_each_credential_in_turn(tmp_path: Path) -> None:
    async def work(runtime: CriRuntime, fake: FakeCri) -> None:
        wrong, right = Credential("u", "wrong"), Credential("u", "right")
        image = await runtime.images.pull("private/x", [wrong, right])
        assert (image.tags, image.config.command, image.config.user) == (("private/x",), ("sh",), "7")
        assert len(fake.auths) == 2
        with pytest.raises(NoSuchImage, match="failed to authorize private/y"):
            await runtime.images.pull("private/y", [wrong])
        assert await runtime.images.get("none") is None
        await runtime.images.remove("private/x")
        assert [one.id for one in await runtime.images.list()] == ["sha256:1"]
        with pytest.raises(InvalidSpec):
            await runtime.images.load("x.tar")

    run(tmp_path, work)


def test_who_is_not_there_is_said() -> None:
    with pytest.raises(InvalidSpec, match=r"is not like unix:///run/containerd/containerd\.sock"):
        socket_path("tcp://1.2.3.4")

    async def main() -> None:
        with pytest.raises(RuntimeFailure, match="code = Unavailable"):
            await open_cri("unix:///nowhere/cri.sock", SystemClock())

    asyncio.run(main())


def test_specs_become_messages() -> None:
    box = SandboxSpec("b", network="host", host_pid=True, cgroup_parent="t/pod", user_namespace=(1000, 10))
    wanted = ContainerSpec(
        "c", "b", "sha256:1", ("x",), user="5:6", supplemental_groups=(7,), strict_groups=True,
        mounts=(Mount("/t", "/s", True, "rslave", recursive_readonly=True),), stop_signal="SIGUSR1",
        security=Security(add_capabilities=("NET_ADMIN",), seccomp="/p.json", no_new_privileges=True),
        resources=Resources(cpu_quota=5, memory_limit=10, memory_swap=5), log_path="/l/0.log",
    )  # fmt: skip
    message = convert.container(wanted, box, target="other")
    security = message["linux"]["security_context"]
    assert security["run_as_user"] == {"value": 5}
    assert security["run_as_group"] == {"value": 6}
    assert security["supplemental_groups_policy"] == 1
    assert security["seccomp"] == {"profile_type": protocol.LOCALHOST, "localhost_ref": "/p.json"}
    assert "/proc/kcore" in security["masked_paths"]
    assert security["namespace_options"]["pid"] == protocol.TARGET
    assert security["namespace_options"]["userns_options"]["uids"] == [
        {"host_id": 1000, "container_id": 0, "length": 10}
    ]
    assert message["mounts"][0] == {
        "container_path": "/t", "host_path": "/s", "readonly": True, "propagation": 1, "recursive_read_only": True,
        "uid_mappings": [{"host_id": 1000, "container_id": 0, "length": 10}],
        "gid_mappings": [{"host_id": 1000, "container_id": 0, "length": 10}],
    }  # fmt: skip
    assert (message["log_path"], message["stop_signal"]) == ("l/0.log", 29)
    limits = message["linux"]["resources"]
    assert (limits["memory_swap_limit_in_bytes"], limits["cpu_period"]) == (15, 100_000)
    assert convert.sandbox(box)["linux"]["cgroup_parent"] == "/t/pod"
    assert convert.sandbox(SandboxSpec("b", privileged=True))["linux"]["security_context"]["privileged"] is True
    profiles = {"default": protocol.RUNTIME_DEFAULT, "unconfined": protocol.UNCONFINED, "web": protocol.LOCALHOST}
    for name, kind in profiles.items():
        context = convert.container(replace(wanted, security=Security(apparmor=name)), box)["linux"]["security_context"]
        assert context["apparmor"]["profile_type"] == kind
    for bad in (
        ContainerSpec("c", "b", "i", ("x",), rlimits=(("NOFILE", 1, 1),)),
        ContainerSpec("c", "b", "i", ("x",), mounts=(Mount("/t"),)),
        ContainerSpec("c", "b", "i", ("x",), user="a:b"),
    ):
        with pytest.raises(InvalidSpec):
            convert.container(bad, box)


def test_exit_codes_come_as_a_status() -> None:
    causes = {"causes": [{"reason": "ExitCode", "message": "9"}]}
    ended = {"status": "Failure", "message": "command terminated with exit code 9", "details": causes}
    assert exit_code(b"") == (0, "", True)
    assert exit_code(json.dumps({"status": "Success"}).encode()) == (0, "", True)
    assert exit_code(json.dumps(ended).encode())[::2] == (9, True)
    assert exit_code(json.dumps({"status": "Failure", "message": "no"}).encode()) == (1, "no", False)
    assert exit_code(b"text") == (1, "text", False)


class Pipe:
    """One end of a connection in memory."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.other: Pipe

    async def read(self, limit: int = 65536) -> bytes:
        return await self.incoming.get()

    async def write(self, data: bytes) -> None:
        self.other.incoming.put_nowait(data)

    async def write_eof(self) -> None:
        self.other.incoming.put_nowait(b"")

    async def close(self) -> None:
        self.other.incoming.put_nowait(b"")
        self.incoming.put_nowait(b"")


def test_a_session_carries_streams_and_the_exit_code() -> None:
    async def main() -> None:
        here, there = Pipe(), Pipe()
        here.other, there.other = there, here
        streams: dict[str, SpdyStream] = {}
        ready = asyncio.Event()

        async def accept(stream: SpdyStream) -> bool:
            streams[stream.headers["streamtype"]] = stream
            if len(streams) == 4:
                ready.set()
            return True

        server = SpdyConnection(there)
        session = CriSession(SpdyConnection(here, server=False), tty=False, stdin=True, lost=137)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.run(accept))
            group.create_task(session.run())
            await session.write(b"question")
            await session.close_stdin()
            await ready.wait()
            assert await streams["stdin"].read() == b"question"
            assert await streams["stdin"].read() == b""
            await streams["stdout"].write(b"answer")
            await streams["stderr"].write(b"complaint")
            causes = {"causes": [{"reason": "ExitCode", "message": "4"}]}
            await streams["error"].write(json.dumps({"status": "Failure", "details": causes}).encode())
            for name in ("stdout", "stderr", "error"):
                await streams[name].write_eof()
            seen = {number: data async for number, data in session.output()}
            assert seen == {1: b"answer", 2: b"complaint"}
            assert await session.wait() == 4
            serving.cancel()

    asyncio.run(asyncio.wait_for(main(), 10))
