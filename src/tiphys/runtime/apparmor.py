"""AppArmor, where the host has it: the runtime's default profile, loaded when first needed, and profiles by name.

The default profile has the effect of Docker's and containerd's: all but mounting, and but writing below /proc and /sys
where containers have no business; containers under it may signal and trace each other only (apparmor.d(5)).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tiphys.runtime.types import InvalidSpec, RuntimeFailure

DEFAULT = "cri-containerd.apparmor.d"
"""The name that containers of Kubernetes know the runtime's default profile by."""
PARSER = "apparmor_parser"
SYS = Path("/sys")
ETC = Path("/etc/apparmor.d")

_RULES = """
  network,
  capability,
  file,
  umount,
  deny mount,

  signal (receive) peer=unconfined,
  signal (receive) peer={{runc,crun}},
  signal (send,receive) peer={name},
  ptrace (trace,tracedby,read,readby) peer={name},

  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,

  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
"""


def enabled() -> bool:
    """Whether the kernel enforces it, here: inside of a container its files are not to be seen."""
    try:
        on = (SYS / "module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        return False
    inside = os.environ.get("container")  # noqa: SIM112 - systemd's name for it
    return on and (SYS / "kernel/security/apparmor").is_dir() and not inside


def supported() -> bool:
    """Whether the kernel enforces it and profiles can be loaded."""
    return enabled() and shutil.which(PARSER, path="/usr/sbin:/sbin:/usr/bin:/bin") is not None


def resolve(wanted: str, *, privileged: bool) -> str:
    """The name of the profile that a program is to run under, "" for none. `wanted` is "" (the default where there is
    AppArmor), default, unconfined, or the name of a loaded profile. Raises InvalidSpec, RuntimeFailure."""
    if wanted == "unconfined":
        return ""
    if not supported():
        if wanted:
            raise InvalidSpec("apparmor is not supported")
        return ""
    if wanted in ("", "default"):
        if privileged:
            return ""
        load_default()
        return DEFAULT
    name = wanted.removeprefix("localhost/")
    if not is_loaded(name):
        raise InvalidSpec(f"apparmor profile not found {name}")
    return name


def is_loaded(name: str) -> bool:
    """Whether the kernel has the profile."""
    try:
        lines = (SYS / "kernel/security/apparmor/profiles").read_text().splitlines()
    except OSError as error:
        raise RuntimeFailure(f"apparmor profiles cannot be listed: {error.strerror}") from error
    return any(line.startswith(f"{name} (") for line in lines)


def profile(name: str) -> str:
    """The default profile's text, with what this host's own profiles include."""
    abi = "abi <abi/3.0>,\n" if (ETC / "abi/3.0").exists() else ""
    tunables = (ETC / "tunables/global").exists()
    head = "#include <tunables/global>\n" if tunables else "@{PROC}=/proc/\n"
    base = "  #include <abstractions/base>\n" if (ETC / "abstractions/base").exists() else ""
    rules = _RULES.format(name=name)
    return f"{abi}{head}profile {name} flags=(attach_disconnected,mediate_deleted) {{\n{base}{rules}}}\n"


def load_default() -> None:
    """Have the kernel know the default profile. Raises RuntimeFailure with the parser's words."""
    if is_loaded(DEFAULT):
        return
    done = subprocess.run([PARSER, "-Kr"], input=profile(DEFAULT), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeFailure(f"load apparmor profile {DEFAULT}: {done.stderr.strip()}")
