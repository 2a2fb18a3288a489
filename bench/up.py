"""How long `tiphys up` takes, and what an idle cluster costs.

    python bench/up.py [--nodes N] [--rounds R] [--idle SECONDS]

Prints the first start (new certificates, new store), the later ones (median of R), the memory of all processes of
the cluster (proportional set size, MiB: shared pages counted once) and the CPU time they use while idle, in
percent of one core. Uses a temporary TIPHYS_HOME; needs root.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tiphys.base.clock import SystemClock

CLOCK = SystemClock()
TICKS = os.sysconf("SC_CLK_TCK")


def timed(*words: str) -> float:
    start = CLOCK.monotonic()
    subprocess.run([sys.executable, "-m", "tiphys", *words], check=True, stdout=subprocess.DEVNULL)
    return CLOCK.monotonic() - start


def processes(marker: str) -> list[Path]:
    """Processes with `marker` in their arguments or environment, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                    found.append(entry)
            except OSError:
                continue
    return found


def memory(entries: list[Path]) -> float:
    total = 0
    for entry in entries:
        for line in (entry / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def cpu(entries: list[Path]) -> float:
    """Seconds of CPU time used so far."""
    ticks = 0
    for entry in entries:
        fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(TIPHYS_HOME=home, TIPHYS_RUN=f"{home}/run", KUBECONFIG=f"{home}/kubeconfig")
        up = ("up", "bench", "--quiet", "--nodes", str(options.nodes))
        try:
            print(f"first up   {timed(*up):6.2f} s")
            again = []
            for _ in range(options.rounds):
                timed("down", "bench", "--quiet")
                again.append(timed(*up))
            print(f"later up   {statistics.median(again):6.2f} s   (min {min(again):.2f}, max {max(again):.2f})")
            CLOCK.pause(10.0)
            entries = processes(home)
            before = cpu(entries)
            CLOCK.pause(options.idle)
            print(f"idle CPU   {100 * (cpu(entries) - before) / options.idle:6.2f} % of a core")
            print(f"memory     {memory(entries):6.1f} MiB in {len(entries)} processes")
        finally:
            timed("delete", "bench", "--quiet")


if __name__ == "__main__":
    main()
