"""The runtime's pure parts: capabilities, users, logs, frames, limits, cgroup layouts, specs, device rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.runtime import bundle, capabilities, cgroups, protocol, resources, sandboxes, spec, users
from tiphys.runtime.containers import signal_number
from tiphys.runtime.logs import MAX_PART, LineSplitter, LogWriter
from tiphys.runtime.types import (
    ContainerSpec,
    Device,
    InvalidSpec,
    Mount,
    Resources,
    SandboxSpec,
    Security,
)


def test_capability_sets() -> None:
    assert capabilities.select((), (), False) == 0xA80425FB
    assert capabilities.select(("NET_ADMIN",), ("ALL",), False) == 1 << 12
    assert capabilities.select(("ALL",), ("CAP_SYS_ADMIN",), False) == ((1 << 41) - 1) & ~(1 << 21)
    assert capabilities.names(0b101) == ["CHOWN", "DAC_READ_SEARCH"]
    with pytest.raises(KeyError):
        capabilities.mask(["NOPE"])


@pytest.fixture
def accounts(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nbroken\napp:x:7:8::/home/app:/bin/sh\n")
    (tmp_path / "group").write_text("root:x:0:\nstaff:x:50:app,other\n")
    return str(tmp_path / "passwd"), str(tmp_path / "group")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, [], "/root")), ("app", (7, 8, [50], "/home/app")), ("7", (7, 8, [50], "/home/app")),
        ("9", (9, 0, [], "/")), ("app:staff", (7, 50, [], "/home/app")), ("9:10", (9, 10, [], "/")),
    ],
)  # fmt: skip
def test_user_lookup(accounts: tuple[str, str], user: str, expected: tuple[int, int, list[int], str]) -> None:
    assert tuple(users.lookup(user, *accounts)) == expected


@pytest.mark.parametrize("user", ["", "0"])
def test_without_accounts_root_is_at_home_at_the_root(user: str) -> None:
    assert tuple(users.lookup(user, "/none", "/none")) == (0, 0, [], "/")


@pytest.mark.parametrize("user", ["ghost", "app:ghosts", "99999999999"])
def test_unknown_users_are_refused(accounts: tuple[str, str], user: str) -> None:
    with pytest.raises(ValueError, match=user.rpartition(":")[2][:5]):
        users.lookup(user, *accounts)


@given(st.lists(st.binary(max_size=40_000).map(lambda data: data.replace(b"\0", b"\n")), max_size=6))
def test_log_entries_hold_every_byte(chunks: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        writer = LogWriter(f"{directory}/log", 1 << 30, 5, lambda: 1_700_000_000_123_456_789)
        splitter = LineSplitter(writer, "stdout")
        for chunk in chunks:
            splitter.feed(chunk)
        splitter.close()
        writer.close()
        entries = Path(f"{directory}/log").read_bytes().split(b"\n")[:-1]
    text = b""
    for entry in entries:
        stamp, stream, tag, content = entry.split(b" ", 3)
        assert (stamp, stream) == (b"2023-11-14T22:13:20.123456789Z", b"stdout")
        assert len(content) <= MAX_PART
        text += content + (b"\n" if tag == b"F" else b"")
    assert text == b"".join(chunks)


def test_rotation_keeps_the_newest_files(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), 10, 3)
    for number in range(6):
        writer.write(f"entry {number} long enough\n".encode())
    kept = {path.name: path.read_text().split()[1] for path in tmp_path.iterdir()}
    assert kept == {"log": "5", "log.1": "4", "log.2": "3"}


@given(st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=300))), st.integers(1, 50))
def test_frames_survive_any_cut(frames: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(protocol.frame(kind, payload) for kind, payload in frames)
    decoder = protocol.Decoder()
    seen = [found for start in range(0, len(data), size) for found in decoder.feed(data[start : start + size])]
    assert seen == frames


def test_limits_as_files() -> None:
    limits = Resources(cpu_shares=512, cpu_quota=50_000, memory_limit=1 << 20, pids_limit=-1, cpuset_cpus="0-1")
    assert resources.v1_files(limits) == [
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpuset", "cpuset.cpus", "0-1"),
        ("memory", "memory.limit_in_bytes", "1048576"),
        ("pids", "pids.max", "max"),
    ]
    assert dict(resources.v2_files(limits)) == {
        "cpu.weight": str(resources.weight(512)),
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0-1",
        "memory.max": "1048576",
        "pids.max": "max",
    }
    assert resources.v1_files(Resources()) == []


def test_weights_follow_shares() -> None:
    assert [resources.weight(shares) for shares in (2, 1024, 262144)] == [1, 100, 10000]


def test_layouts_are_told_apart(tmp_path: Path) -> None:
    unified = tmp_path / "unified"
    unified.mkdir()
    info = tmp_path / "mountinfo"
    line = "31 30 0:27 / {} rw - {} cgroup {}\n"
    info.write_text(
        line.format("/c/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
        + line.format("/c/memory", "cgroup", "rw,memory")
        + line.format("/c/systemd", "cgroup", "rw,xattr,name=systemd")
        + line.format(unified, "cgroup2", "rw")
    )
    hybrid = cgroups.detect(str(info))
    assert (hybrid.v2, hybrid.v1["cpu"], hybrid.controllers()) == ("", "/c/cpu,cpuacct", ["cpu", "memory"])
    assert hybrid.directories("a/b") == ["/c/cpu,cpuacct/a/b", "/c/memory/a/b"]
    (unified / "cgroup.controllers").write_text("cpu memory pids\n")
    assert cgroups.detect(str(info)).directories("a/b") == [f"{unified}/a/b"]


def test_a_plan_restricts_devices_on_either_layout() -> None:
    v1 = resources.plan(cgroups.Layout({"devices": "/d"}), "x", Resources(), ["c 10:200 rwm"])
    assert v1["writes"][0] == ("/d/x/devices.deny", ["a"])
    assert v1["writes"][1][1][-1] == "c 10:200 rwm"
    v2 = resources.plan(cgroups.Layout({}, "/u"), "x", Resources(), [])
    assert (v2["writes"], v2["devices"]) == ([], list(resources.DEFAULT_DEVICES))
    assert resources.plan(cgroups.Layout({}, "/u"), "x", Resources())["devices"] is None


FULL = ContainerSpec(
    "id", "box", "sha256:0", ("sh", "-c", "true"), env=(("A", "b"),), user="app", supplemental_groups=(1, 2),
    mounts=(Mount("/a/b", "/x", readonly=True, options=("noexec",)), Mount("/a", size=5)),
    devices=(Device("/dev/null", "/n"),),
    resources=Resources(memory_limit=5), security=Security(add_capabilities=("CHOWN",), masked_paths=("/m",)),
    labels={"k": "v"}, rlimits=(("NOFILE", 1, 2),),
)  # fmt: skip


def test_specs_survive_their_files(tmp_path: Path) -> None:
    spec.save(tmp_path / "spec.json", spec.plain(FULL))
    assert spec.container(spec.load(tmp_path / "spec.json") or {}) == FULL
    box = SandboxSpec("box", sysctls={"a": "b"}, cgroup_resources=Resources(cpu_shares=3))
    assert spec.sandbox(spec.plain(box)) == box
    assert spec.load(tmp_path / "none.json") is None


def make(container: ContainerSpec, tmp_path: Path) -> dict[str, Any]:
    sandbox = {"namespaces": {}, "shm": "", "cgroup_parent": "p"}
    layout = cgroups.Layout({"memory": "/m"})
    return bundle.container(container, tmp_path / "containers" / "id", "", [tmp_path], sandbox, layout)


def test_a_bundle_orders_mounts_and_masks_paths(tmp_path: Path) -> None:
    content = make(FULL, tmp_path)
    assert [mount["target"] for mount in content["mounts"]] == ["/a", "/a/b"]
    assert content["masked_paths"] == ["/m"]
    assert "/proc/sys" in content["readonly_paths"]
    assert str(content["seccomp"]).endswith(".bpf")
    privileged = make(ContainerSpec("id", "box", "i", ("sh",), security=Security(privileged=True)), tmp_path)
    assert (privileged["masked_paths"], privileged["seccomp"]) == ([], "")


@pytest.mark.parametrize(
    ("security", "device", "text"),
    [
        (Security(add_capabilities=("NOPE",)), (), "NOPE"),
        (Security(seccomp="/no/such/profile"), (), "/no/such/profile"),
        (Security(), (Device("/no/device", "/n"),), "/no/device"),
    ],
)
def test_impossible_specs_are_named(security: Security, device: tuple[Device, ...], text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=text):
        make(ContainerSpec("id", "box", "i", ("sh",), security=security, devices=device), tmp_path)


def test_signal_names() -> None:
    assert [signal_number(name) for name in ("SIGTERM", "term", "9", "SIGRTMIN+3")] == [15, 15, 9, 37]
    with pytest.raises(InvalidSpec, match="SIGNOPE"):
        signal_number("SIGNOPE")


def test_digits_are_an_id_and_never_a_name(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("1000:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    (tmp_path / "group").write_text("50:x:0:\n")
    files = str(tmp_path / "passwd"), str(tmp_path / "group")
    assert users.lookup("1000", *files)[:2] == (1000, 1000)
    assert users.lookup("1000:50", *files)[:2] == (1000, 50)


@pytest.mark.parametrize("identity", ["4294967295:7", "7:4294967295"])
def test_an_account_cannot_have_the_id_that_changes_nothing(tmp_path: Path, identity: str) -> None:
    """setresuid(-1) would leave the process root."""
    (tmp_path / "passwd").write_text(f"app:x:{identity}::/:/bin/sh\n")
    with pytest.raises(ValueError, match="range"):
        users.lookup("app", str(tmp_path / "passwd"), str(tmp_path / "group"))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("kernel.core_pattern", {}), ("kernel/core_pattern", {}), ("net/../kernel/core_pattern", {}), ("net", {}),
        ("vm.overcommit_memory", {}), ("net..x", {}), ("net.ipv4.ip_forward", {"network": "host"}),
        ("kernel.shmmax", {"host_ipc": True}),
    ],
)  # fmt: skip
def test_only_sysctls_of_the_sandbox_s_own_namespaces_can_be_set(name: str, fields: dict[str, Any]) -> None:
    wanted = SandboxSpec("box", **{"network": "none", "sysctls": {name: "1"}, **fields})
    with pytest.raises(InvalidSpec, match="sysctl"):
        sandboxes._check(wanted, {})


@pytest.mark.parametrize("name", ["net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies", "kernel.shmmax", "fs.mqueue.x"])
def test_sysctls_of_namespaces_are_allowed(name: str) -> None:
    sandboxes._check(SandboxSpec("box", network="none", sysctls={name: "1"}), {})
