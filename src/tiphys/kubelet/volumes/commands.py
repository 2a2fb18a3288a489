"""mount(8) and its kin, for file systems that need more than a system call: disks and NFS. Texts as upstream's."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tiphys.kubelet.volumes.payload import VolumeError

TIMEOUT = 120.0
"""Seconds that a command may take; a server that does not answer must not hold up the pod's end for ever."""


def _run(*argv: str) -> tuple[int, str]:
    """Exit status and output. Raises VolumeError when it cannot be run at all."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=TIMEOUT)
    except FileNotFoundError as error:
        raise VolumeError(f'exec: "{argv[0]}": executable file not found in $PATH') from error
    except subprocess.TimeoutExpired as error:
        raise VolumeError(f"{' '.join(argv)}: no answer within {TIMEOUT:.0f} s") from error
    return done.returncode, done.stdout.decode(errors="replace")


def mount_by_command(source: str, target: Path, kind: str, options: Sequence[str]) -> None:
    """Raises VolumeError with what mount(8) said."""
    arguments = ["-t", kind, *(["-o", ",".join(options)] if options else []), source, str(target)]
    status, output = _run("mount", *arguments)
    if status:
        raise VolumeError(
            f"mount failed: exit status {status}\nMounting command: mount\nMounting arguments: {' '.join(arguments)}\n"
            f"Output: {output}"
        )


def format_and_mount(device: Path, target: Path, kind: str, options: Sequence[str]) -> None:
    """Mount a disk; one without anything on it gets a file system first, unless it is only to be read.

    Raises VolumeError."""
    if not _is_formatted(device):
        if "ro" in options:
            raise VolumeError(f"cannot mount unformatted disk {device} as we are manipulating it in read-only mode")
        extra = {"ext3": ("-F", "-m0"), "ext4": ("-F", "-m0"), "xfs": ("-f",)}.get(kind, ())
        status, output = _run(f"mkfs.{kind}", *extra, str(device))
        if status:
            raise VolumeError(
                f'format of disk "{device}" failed: type:("{kind}") target:("{target}") '
                f"errcode:(exit status {status}) output:({output})"
            )
    mount_by_command(str(device), target, kind, [*options, "defaults"])


def _is_formatted(device: Path) -> bool:
    """Whether there is a file system or a partition table on it."""
    status, output = _run("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", str(device))
    if status == 2:  # nothing found
        return False
    if status:
        raise VolumeError(f"failed to get disk format of disk {device}: exit status {status}: {output}")
    return True
