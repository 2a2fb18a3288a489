"""What the kernel's log says of processes that were killed for want of memory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from tiphys.kubelet.oom import KernelLog, Kill, OomWatch

GLOBAL = (
    "4,10,100,-;stress invoked oom-killer: gfp_mask=0x140dca, order=0, oom_score_adj=1000\n",
    "6,11,101,-;Tasks state (memory values in pages):\n",
    "6,12,102,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    "task_memcg=/tiphys/x,task=stress,pid=4242,uid=0\n",
    "3,13,103,-;Out of memory: Killed process 4242 (stress) total-vm:1kB, anon-rss:1kB\n",
)
OF_A_CGROUP = (
    "4,14,104,-;sh invoked oom-killer: gfp_mask=0xcc0, order=0, oom_score_adj=-997\n",
    "6,15,105,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
    "oom_memcg=/tiphys/pod,task_memcg=/tiphys/pod/c,task=sh,pid=77,uid=0\n",
    "3,16,106,-;Memory cgroup out of memory: Killed process 77 (sh) total-vm:1kB\n",
)


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def about(self, about: Any, *event: str) -> None:
        self.events.append((about["name"], *event))


def test_kills_are_found_with_whoever_ran_out_of_memory() -> None:
    log = KernelLog()
    found = [kill for record in (*GLOBAL, *OF_A_CGROUP, *GLOBAL) if (kill := log.feed(record))]
    assert found == [Kill(4242, "stress", "/"), Kill(77, "sh", "/tiphys/pod"), Kill(4242, "stress", "/")]


def test_only_the_whole_machines_lack_of_memory_is_an_event_of_the_node(tmp_path: Path) -> None:
    recorder = Recorder()
    os.mkfifo(tmp_path / "kmsg")
    watch = OomWatch(tmp_path / "kmsg", "node-1", recorder)  # type: ignore[arg-type]  # only what it needs
    for record in (*OF_A_CGROUP, *GLOBAL):
        watch.note(record)
    text = "System OOM encountered, victim process: stress, pid: 4242"
    assert recorder.events == [("node-1", "Warning", "SystemOOM", text)]


def test_without_a_log_nothing_is_told(tmp_path: Path) -> None:
    watch = OomWatch(tmp_path / "none", "node-1", Recorder())  # type: ignore[arg-type]  # only what it needs
    asyncio.run(watch.run())


def test_what_is_written_later_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text("")
    recorder = Recorder()
    watch = OomWatch(path, "node-1", recorder)  # type: ignore[arg-type]  # only what it needs
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        for record in GLOBAL:
            os.write(writing, record.encode())
            watch._read(reading)
    finally:
        os.close(reading)
        os.close(writing)
    assert len(recorder.events) == 1
