"""Run inside a container by test_runtime_attempts.py: tries to get out in many ways, prints what came of each as JSON.

Arguments: a JSON object of system call numbers by name. A result is "ok", "ok TEXT" or the name of an errno.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

NUMBERS: dict[str, int] = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
TRIES: dict[str, Callable[[], object]] = {}
NEW = {"ns": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 1 << 28, "pid": 1 << 29}


def call(name: str, *arguments: int | bytes | None) -> int:
    """A system call; raises OSError."""
    made = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(libc.syscall(NUMBERS[name], *made))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def attempt(name: str, work: Callable[[], object]) -> None:
    TRIES[name] = work


def system_call(name: str, *arguments: int | bytes | None, label: str = "") -> None:
    if name in NUMBERS:
        attempt(label or name, lambda: call(name, *arguments))


def write(path: str, text: str = "1") -> None:
    """Existing files only: nothing is made where it is missing."""
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def node(kind: int, major: int, minor: int) -> str:
    path = f"/tmp/node-{major}-{minor}"
    os.mknod(path, kind | 0o666, os.makedev(major, minor))
    with open(path, "rb") as file:
        return repr(file.read(1))


def namespace(kind: str) -> None:
    handle = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)
    try:
        call("setns", handle, 0)
    finally:
        os.close(handle)


def clone(flags: int) -> None:
    pid = call("clone", flags | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def chroot_walk() -> str:
    """The classic: a root below an open directory, then up by `..` as far as it goes."""
    child = os.fork()
    if child == 0:
        try:
            walk()
        finally:
            os._exit(0 if os.path.exists("/attempts.py") else 1)
    return "inside" if os.waitpid(child, 0)[1] == 0 else "outside"


def walk() -> None:
    before = os.open("/", os.O_RDONLY)
    os.makedirs("/tmp/jail", exist_ok=True)
    os.chroot("/tmp/jail")
    os.fchdir(before)
    for _ in range(30):
        os.chdir("..")
    os.chroot(".")


def read(path: str) -> str:
    return f"{len(Path(path).read_bytes())} bytes"


def capset_all() -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    everything = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF, 0xFFFFFFFF, 0, 0x1FF, 0x1FF, 0])
    if libc.syscall(NUMBERS["capset"], header, everything) < 0:
        raise OSError(ctypes.get_errno(), "capset")


def prctl(*arguments: int) -> None:
    if libc.prctl(*[ctypes.c_ulong(one) for one in arguments]) < 0:
        raise OSError(ctypes.get_errno(), "prctl")


def overwrite_program() -> None:
    """The first process's program, as CVE-2019-5736 overwrote its runtime's."""
    os.close(os.open("/proc/1/exe", os.O_WRONLY))


def host_socket() -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0tiphys-attempts")


def descriptors() -> list[str]:
    """All that are open, but for the one that lists them."""
    return sorted(name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


def facts() -> dict[str, object]:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    spaces = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    devices = sorted(entry.name for entry in os.scandir("/dev") if stat.S_ISCHR(entry.stat().st_mode))
    return {
        "namespaces": spaces,
        "devices": devices,
        "blocks": [entry.name for entry in os.scandir("/dev") if stat.S_ISBLK(entry.stat().st_mode)],
        "pids": sum(name.isdigit() for name in os.listdir("/proc")),
        "descriptors": descriptors(),
        "umask": status["Umask"],
        "no_new_privileges": status["NoNewPrivs"],
        "effective": status["CapEff"],
        "ambient": status["CapAmb"],
        "seccomp": status["Seccomp"],
        "environment": sorted(os.environ),
        "limits": [list(resource.getrlimit(kind)) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
        "groups": sorted(os.getgroups()),
        "oom_score_adj": Path("/proc/self/oom_score_adj").read_text().strip(),
        "cgroups": sorted({line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}),
    }


def prepare() -> None:
    tmpfs = (b"x", b"/tmp", b"tmpfs", 0, None)
    system_call("mount", *tmpfs)
    system_call("mount", b"proc", b"/tmp", b"proc", 0, None, label="mount proc")
    system_call("mount", b"c", b"/tmp", b"cgroup", 0, b"memory", label="mount cgroup")
    system_call("mount", b"/dev/vda", b"/tmp", b"ext4", 0, None, label="mount disk")
    system_call("mount", b"d", b"/tmp", b"debugfs", 0, None, label="mount debugfs")
    system_call("mount", b"b", b"/tmp", b"binfmt_misc", 0, None, label="mount binfmt_misc")
    system_call("mount", None, b"/", None, 32 | 4096, None, label="remount /")
    calls: dict[str, tuple[int | bytes | None, ...]] = {
        "umount2": (b"/proc/sys", 2), "pivot_root": (b"/", b"/tmp"), "open_tree": (-100, b"/", 1),
        "fsopen": (b"proc", 0), "fspick": (-100, b"/", 0), "move_mount": (-100, b"/tmp", -100, b"/dev", 0),
        "bpf": (0, 0, 0), "mount_setattr": (-100, b"/", 0, 0, 0), "perf_event_open": (0, 0, -1, -1, 0),
        "userfaultfd": (1,),
        "io_uring_setup": (1, 0), "kexec_load": (0, 0, 0, 0), "kexec_file_load": (0, 0, 0, 0, 0),
        "init_module": (0, 0, b""), "finit_module": (0, b"", 0), "delete_module": (b"x", 0), "swapon": (b"/tmp/x", 0),
        "swapoff": (b"/tmp/x",), "acct": (0,), "quotactl": (0, b"/dev/vda", 0, 0), "iopl": (3,), "ioperm": (0, 1, 1),
        "keyctl": (0, -3, 0), "add_key": (b"user", b"x", b"y", 1, -3), "request_key": (b"user", b"x", 0, -3),
        "open_by_handle_at": (0, 0, 0), "syslog": (3, 0, 0), "sethostname": (b"evil", 4), "setdomainname": (b"evil", 4),
        "settimeofday": (b"\1" * 16, 0), "clock_settime": (0, b"\1" * 16), "vhangup": (), "lookup_dcookie": (0, 0, 0),
        "clone3": (0, 0), "personality": (0x40000,), "nfsservctl": (0, 0, 0), "_sysctl": (0,), "uselib": (b"/x",),
        "move_pages": (1, 0, 0, 0, 0, 0), "fanotify_init": (0, 0), "kcmp": (1, 1, 0, 0, 0),
        "get_mempolicy": (0, 0, 0, 0, 0), "pidfd_getfd": (0, 0, 0),
        "process_madvise": (0, 0, 0, 0, 0), "fanotify_mark": (-1, 0, 0, 0, 0),
    }  # fmt: skip
    for name, arguments in calls.items():
        system_call(name, *arguments)
    for kind, flag in NEW.items():
        system_call("unshare", flag, label=f"unshare {kind}")
        attempt(f"clone {kind}", lambda flag=flag: clone(flag))  # type: ignore[misc]
    for kind in ("mnt", "net", "pid", "user", "cgroup"):
        attempt(f"setns {kind}", lambda kind=kind: namespace(kind))  # type: ignore[misc]
    for family in (16, 17, 38, 40):
        attempt(f"socket {family}", lambda family=family: socket.socket(family, socket.SOCK_RAW).close())  # type: ignore[misc]


def prepare_files() -> None:
    for path in (
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/panic_on_oom",
        "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled",
        "/proc/irq/default_smp_affinity", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/release_agent",
        "/sys/fs/cgroup/devices/devices.allow", "/sys/power/state", "/proc/self/oom_score_adj", "/proc/fs/xfs/xqm",
    ):  # fmt: skip
        text = "-999" if path.endswith("oom_score_adj") else "1"
        attempt(f"write {path}", lambda path=path, text=text: write(path, text))  # type: ignore[misc]
    for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/sched_debug", "/dev/kmsg"):
        attempt(f"read {path}", lambda path=path: read(path))  # type: ignore[misc]
    for path in ("/sys/firmware", "/proc/acpi", "/proc/scsi", "/sys/devices/virtual/powercap", "/sys/kernel/debug"):
        attempt(f"list {path}", lambda path=path: f"{len(os.listdir(path))} entries")  # type: ignore[misc]
    attempt("disk node", lambda: node(stat.S_IFBLK, 254, 0))
    attempt("memory node", lambda: node(stat.S_IFCHR, 1, 1))
    attempt("kmsg node", lambda: node(stat.S_IFCHR, 1, 11))
    attempt("chroot walk", chroot_walk)
    attempt("capset", capset_all)
    attempt("ambient", lambda: prctl(47, 2, 21, 0, 0))
    attempt("set mm", lambda: prctl(35, 1, 4096, 0, 0))
    attempt("trusted attribute", lambda: os.setxattr("/tmp", "trusted.x", b"x"))
    attempt("overwrite program", overwrite_program)
    attempt("host's abstract socket", host_socket)
    attempt("nice", lambda: os.setpriority(os.PRIO_PROCESS, 0, -20))
    attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
    attempt("files", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 24, 1 << 24)))
    attempt("immutable", lambda: fcntl.ioctl(os.open("/tmp", os.O_RDONLY), 0x40086602, b"\x10\0\0\0\0\0\0\0"))


def outcome(work: Callable[[], object]) -> str:
    try:
        result = work()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except ValueError as error:
        return f"refused: {error}"
    return f"ok {result}" if isinstance(result, str) else "ok"


def tried(work: Callable[[], object]) -> str:
    """In a process of its own: what succeeds must not help the next one."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        os.write(write_end, outcome(work).encode())
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        text = file.read().decode()
    status = os.waitpid(child, 0)[1]
    return text or f"ended {status}"


def main() -> None:
    found: dict[str, object] = facts()
    prepare()
    prepare_files()
    results = {name: tried(work) for name, work in TRIES.items()}
    print(json.dumps({**found, "results": results}))


if __name__ == "__main__":
    main()
