"""What the kernel tells of use, read from its files."""

from __future__ import annotations

import os
from pathlib import Path

from tiphys.base.files import remove_tree
from tiphys.runtime.cgroups import Layout
from tiphys.runtime.measures import DiskUsage, Interface, Pressure, Stall
from tiphys.runtime.usage import disk, interfaces, measure, parse_blkio, parse_interfaces, parse_io, parse_pressure

NET = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier comp
    lo:       5       1    0    0    0     0          0         0        5       1    0    0    0     0       0        0
  eth0:     100       2    3    4    0     0          0         0      200       5    6    7    0     0       0        0
"""
PSI = """some avg10=1.50 avg60=0.25 avg300=0.00 total=1234
full avg10=0.50 avg60=0.00 avg300=0.00 total=99
"""


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


def test_a_v2_cgroup_is_read_whole(tmp_path: Path) -> None:
    write(
        tmp_path / "pods" / "a",
        cpu__stat="usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 4\nnr_throttled 1\nthrottled_usec 7\n",
        memory__current="1000\n",
        memory__max="4096\n",
        memory__peak="2000\n",
        memory__stat="anon 300\nfile 500\nfile_mapped 20\ninactive_file 400\npgfault 9\npgmajfault 1\nkernel 60\n",
        memory__events="low 0\nmax 2\noom 1\noom_kill 1\n",
        pids__current="3\n",
        cpu__pressure=PSI,
        io__stat="7:0 rbytes=0 wbytes=0 rios=0 wios=0\n254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
    )
    found = measure(Layout({}, str(tmp_path)), "pods/a")
    assert (found.cpu_nanoseconds, found.cpu_user, found.throttled_nanoseconds) == (5000, 3000, 7000)
    assert (found.memory_bytes, found.memory_working_set, found.memory_limit, found.memory_max) == (
        1000,
        600,
        4096,
        2000,
    )
    assert (found.rss, found.cache, found.kernel, found.page_faults, found.oom_kills) == (300, 500, 60, 9, 1)
    assert found.memory_failures == 3
    assert found.pressure == {"cpu": Pressure(Stall(1234, 1.5, 0.25, 0.0), Stall(99, 0.5, 0.0, 0.0))}
    (device,) = found.devices
    assert (device.major, device.minor, device.read_bytes, device.writes) == (254, 0, 1, 4)


def test_a_v1_cgroup_counts_all_below_it_and_knows_no_limit(tmp_path: Path) -> None:
    roots = {name: str(tmp_path / name) for name in ("cpu", "cpuacct", "memory", "pids")}
    write(tmp_path / "cpuacct" / "a", cpuacct__usage="77\n", cpuacct__stat="user 2\nsystem 1\n")
    write(
        tmp_path / "memory" / "a",
        memory__usage_in_bytes="1000",
        memory__stat="total_rss 5\ntotal_inactive_file 1500\nhierarchical_memory_limit 9223372036854771712\n",
    )
    found = measure(Layout(roots), "a")
    assert (found.cpu_nanoseconds, found.memory_working_set, found.memory_limit, found.rss) == (77, 0, 0, 5)
    assert found.cpu_user == 2 * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert found.time > 0


def test_a_cgroup_that_is_gone_used_nothing(tmp_path: Path) -> None:
    assert measure(Layout({}, str(tmp_path)), "gone").memory_bytes == 0


def test_interfaces_are_those_but_the_loopback() -> None:
    assert parse_interfaces(NET) == (Interface("eth0", 100, 2, 3, 4, 200, 5, 6, 7),)
    assert "lo" not in {one.name for one in interfaces(os.getpid())}


def test_pressure_of_old_kernels_has_no_full_line() -> None:
    assert parse_pressure(PSI.splitlines()[0]).full == Stall()


def test_devices_are_found_in_both_versions_files() -> None:
    sizes = "254:0 Read 4096\n254:0 Write 512\n254:0 Sync 0\nTotal 4608\n"
    (device,) = parse_blkio(sizes, "254:0 Read 2\n254:0 Write 1\nTotal 3\n")
    assert (device.read_bytes, device.written_bytes, device.reads, device.writes) == (4096, 512, 2, 1)
    assert parse_io("") == ()


def test_files_are_counted_as_du_does(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"x" * 10_000)
    os.link(tmp_path / "sub" / "a", tmp_path / "b")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = disk(str(tmp_path))
    assert found.inodes == 4
    blocks = sum(path.lstat().st_blocks for path in (tmp_path, tmp_path / "sub", tmp_path / "b", tmp_path / "loop"))
    assert found.bytes == blocks * 512
    assert disk(str(tmp_path / "nope")) == DiskUsage()
    assert disk(str(tmp_path / "b")).inodes == 1


def test_files_are_found_however_deep_they_are_hidden(tmp_path: Path) -> None:
    name, depth = "d" * 200, 60
    directory = os.open(tmp_path, os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    try:
        for _ in range(depth):
            os.mkdir(name, dir_fd=directory)
            deeper = os.open(name, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = deeper
        handle = os.open("hidden", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
        os.write(handle, b"x" * 100_000)
        os.close(handle)
    finally:
        os.close(directory)
    found = disk(str(tmp_path))
    assert found.inodes == depth + 2
    assert found.bytes >= 100_000
    assert len(os.listdir("/proc/self/fd")) < before
    remove_tree(tmp_path)
