"""A small assembler for seccomp filters: rules by system call number to classic BPF (seccomp(2), filter.txt).

The number is found by a balanced tree of comparisons, so that a call costs some eight instructions, not hundreds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

ALLOW, LOG, KILL_PROCESS, KILL_THREAD, TRAP, TRACE, ERRNO = (
    0x7FFF0000,
    0x7FFC0000,
    0x80000000,
    0,
    0x00030000,
    0x7FF00000,
    0x00050000,
)

_LOAD, _RETURN, _AND, _JUMP = 0x20, 0x06, 0x54, 0x05
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35

Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, operand."""


class Condition(NamedTuple):
    """A test of one argument: EQ, NE, LT, LE, GT, GE, or MASKED (argument & mask == value)."""

    argument: int
    op: str
    value: int
    mask: int = 0


class Rule(NamedTuple):
    """`action` when all conditions hold."""

    action: int
    conditions: tuple[Condition, ...] = ()


def assemble(architectures: Sequence[tuple[int, Mapping[int, Sequence[Rule]], int, int]]) -> bytes:
    """The filter's bytes. Each architecture: its AUDIT_ARCH value, rules by number, the action for other numbers,
    and the action for numbers beyond all known. Any other architecture kills the process."""
    program: list[Instruction] = [(_LOAD, 0, 0, 4)]
    for value, rules, default, unknown in architectures:
        body = [(_LOAD, 0, 0, 0), *_tree(_ranges(rules, default, unknown))]
        program += [(_JEQ, 1, 0, value), (_JUMP, 0, 0, len(body)), *body]
    program.append((_RETURN, 0, 0, KILL_PROCESS))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _ranges(
    rules: Mapping[int, Sequence[Rule]], default: int, unknown: int
) -> list[tuple[int, tuple[Instruction, ...]]]:
    """(first number, code), neighbours with the same code joined."""
    out: list[tuple[int, tuple[Instruction, ...]]] = []
    last = max(rules, default=-1)
    for number in range(last + 2):
        code = tuple(_block(rules.get(number, ()), default)) if number <= last else ((_RETURN, 0, 0, unknown),)
        if not out or out[-1][1] != code:
            out.append((number, code))
    return out


def _tree(ranges: Sequence[tuple[int, tuple[Instruction, ...]]]) -> list[Instruction]:
    if len(ranges) == 1:
        return list(ranges[0][1])
    middle = len(ranges) // 2
    left, right = _tree(ranges[:middle]), _tree(ranges[middle:])
    first = ranges[middle][0]
    if len(left) <= 255:
        return [(_JGE, len(left), 0, first), *left, *right]
    return [(_JGE, 0, 1, first), (_JUMP, 0, 0, len(left)), *left, *right]


def _block(rules: Sequence[Rule], default: int) -> list[Instruction]:
    """The first rule whose conditions hold decides."""
    code: list[Instruction] = []
    for rule in rules:
        part: list[Instruction] = [(_RETURN, 0, 0, rule.action)]
        for condition in reversed(rule.conditions):
            part = _test(condition, len(part)) + part
        code += part
        if not rule.conditions:
            return code
    return [*code, (_RETURN, 0, 0, default)]


def _test(condition: Condition, skip: int) -> list[Instruction]:
    """Falls through when the condition holds, jumps over `skip` instructions when not. Little-endian machines."""
    low_word = 16 + 8 * condition.argument
    high, low = condition.value >> 32 & 0xFFFFFFFF, condition.value & 0xFFFFFFFF
    load_high, load_low = (_LOAD, 0, 0, low_word + 4), (_LOAD, 0, 0, low_word)
    if condition.op == "EQ":
        return [load_high, (_JEQ, 0, 2 + skip, high), load_low, (_JEQ, 0, skip, low)]
    if condition.op == "NE":
        return [load_high, (_JEQ, 0, 2, high), load_low, (_JEQ, skip, 0, low)]
    if condition.op == "MASKED":
        high_mask, low_mask = condition.mask >> 32 & 0xFFFFFFFF, condition.mask & 0xFFFFFFFF
        upper = [load_high, (_AND, 0, 0, high_mask), (_JEQ, 0, 3 + skip, high)]
        return [*upper, load_low, (_AND, 0, 0, low_mask), (_JEQ, 0, skip, low)]
    compare = _JGE if condition.op in ("GE", "LT") else _JGT
    if condition.op in ("GE", "GT"):
        return [load_high, (_JGT, 3, 0, high), (_JEQ, 0, 2 + skip, high), load_low, (compare, 0, skip, low)]
    return [load_high, (_JGT, 3 + skip, 0, high), (_JEQ, 0, 2, high), load_low, (compare, skip, 0, low)]
