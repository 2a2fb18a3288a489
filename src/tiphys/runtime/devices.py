"""Device access on cgroup v2: an eBPF program on the container's cgroup (bpf(2), cgroup-v2.rst "Device controller").

v1 has files for it. The rules are the same lines, e.g. "c 1:3 rwm": what no rule allows is refused.
"""

from __future__ import annotations

import ctypes
import os
import struct

from tiphys.runtime import syscalls

_BPF = 280 if syscalls.ARM else 321
_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

_LOAD, _AND, _SHIFT_RIGHT, _MOVE, _SET, _EXIT = 0x61, 0x54, 0x74, 0xBC, 0xB7, 0x95
_UNLESS_NUMBER, _UNLESS_REGISTER = 0x55, 0x5D


def _instruction(code: int, target: int, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, number)


def program(rules: list[str]) -> bytes:
    """The program: 1 for an access that a rule allows, else 0. Raises ValueError for a rule that it cannot read."""
    # r2 type, r3 access wanted, r4 major, r5 minor
    code = [
        _instruction(_LOAD, 2, 1, 0),
        _instruction(_AND, 2, number=0xFFFF),
        _instruction(_LOAD, 3, 1, 0),
        _instruction(_SHIFT_RIGHT, 3, number=16),
        _instruction(_LOAD, 4, 1, 4),
        _instruction(_LOAD, 5, 1, 8),
    ]
    for rule in rules:
        code += _rule(rule)
    return b"".join([*code, _instruction(_SET, 0), _instruction(_EXIT, 0)])


def _rule(rule: str) -> list[bytes]:
    try:
        kind, numbers, letters = rule.split()
        major, minor = numbers.split(":")
        access = sum(_ACCESS[letter] for letter in letters)
        tests = [(2, _TYPES[kind])]
        tests += [(register, int(text)) for register, text in ((4, major), (5, minor)) if text != "*"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"device rule {rule!r} is not like 'c 1:3 rwm'") from error
    allow = [_instruction(_SET, 0, number=1), _instruction(_EXIT, 0)]
    # r1 = wanted & allowed; something wanted beyond the allowed leaves it different
    code = [
        _instruction(_MOVE, 1, 3),
        _instruction(_AND, 1, number=access),
        _instruction(_UNLESS_REGISTER, 1, 3, len(allow)),
        *allow,
    ]
    for register, number in reversed(tests):
        code.insert(0, _instruction(_UNLESS_NUMBER, register, offset=len(code), number=number))
    return code


def restrict(directory: str, rules: list[str]) -> None:
    """Let the cgroup v2 at `directory` use only the devices that `rules` name. Raises OSError, ValueError."""
    code = program(rules)
    instructions, license_name = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    addresses = ctypes.addressof(instructions), ctypes.addressof(license_name)
    load = struct.pack("=IIQQ", _PROG_TYPE_CGROUP_DEVICE, len(code) // 8, *addresses)
    handle = _call(_PROG_LOAD, load.ljust(72, b"\0"), "load device program")
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        attach = struct.pack("=IIII", cgroup, handle, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI)
        _call(_PROG_ATTACH, attach, f"attach device program to {directory}")
    finally:
        os.close(cgroup)
        os.close(handle)


def _call(command: int, attributes: bytes, step: str) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(syscalls.libc.syscall(_BPF, command, buffer, ctypes.c_size_t(len(attributes))))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{step}: {os.strerror(code)}")
    return result
