"""Pod Security Standards: levels, their versions, and what the labels of a namespace ask for (KEP-2579)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from tiphys.api.kinds.base import FieldError, invalid

PREFIX = "pod-security.kubernetes.io/"
PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)
"""From the least to the most strict."""
LATEST = 1 << 30
"""The minor version that stands for whatever is newest."""
MODES = ("enforce", "audit", "warn")
_version = re.compile(r"v1\.(0|[1-9][0-9]{0,8})").fullmatch


class LevelVersion(NamedTuple):
    """A level as a minor version of Kubernetes 1 defined it."""

    level: str = PRIVILEGED
    minor: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"

    def equivalent(self, other: LevelVersion) -> bool:
        """Whether both allow the same."""
        return self == other or self.level == other.level == PRIVILEGED


ANYTHING = LevelVersion()
"""No restriction at all."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is refused, what is noted in the audit log, what is warned of."""

    enforce: LevelVersion = ANYTHING
    audit: LevelVersion = ANYTHING
    warn: LevelVersion = ANYTHING

    @property
    def fully_privileged(self) -> bool:
        """Whether everything is allowed without a word."""
        return self.enforce.level == self.audit.level == self.warn.level == PRIVILEGED

    def equivalent(self, other: Policy) -> bool:
        """Whether both come to the same."""
        return (
            self.enforce.equivalent(other.enforce)
            and self.audit.equivalent(other.audit)
            and self.warn.equivalent(other.warn)
        )


EVERYTHING = Policy()
"""Everything is allowed without a word."""


def parse_level(text: str) -> str | None:
    """None: there is no such level."""
    return text if text in LEVELS else None


def parse_version(text: str) -> int | None:
    """The minor version; None if it is no version."""
    if text == "latest":
        return LATEST
    found = _version(text)
    return int(found[1]) if found else None


def stricter(one: str, other: str) -> bool:
    """Whether level `one` forbids more."""
    return LEVELS.index(one) > LEVELS.index(other)


def policy_of(labels: Mapping[str, str] | None, defaults: Policy) -> tuple[Policy, list[FieldError]]:
    """The policy of a namespace and what is wrong with its labels, which then ask for the most (or, of audit and
    warnings, for nothing)."""
    if not labels or PREFIX not in "\n".join(labels):  # one search is faster than one for each label
        return defaults, []
    problems: list[FieldError] = []
    found = {mode: _mode(labels, mode, getattr(defaults, mode), problems) for mode in MODES}
    policy = Policy(**found)
    explicit = parse_level(labels.get(PREFIX + "enforce", ""))
    if explicit and PREFIX + "warn" not in labels and stricter(explicit, policy.warn.level):
        minor = policy.warn.minor if PREFIX + "warn-version" in labels else policy.enforce.minor
        policy = replace(policy, warn=LevelVersion(explicit, minor))
    return policy, problems


def _mode(labels: Mapping[str, str], mode: str, default: LevelVersion, problems: list[FieldError]) -> LevelVersion:
    level, minor = default
    label = PREFIX + mode
    if (text := labels.get(label)) is not None:
        level = parse_level(text) or ""
        if not level:
            problems.append(_invalid(label, text, f"must be one of {', '.join(LEVELS)}"))
            level = RESTRICTED if mode == "enforce" else PRIVILEGED
    label += "-version"
    if (text := labels.get(label)) is not None:
        version = parse_version(text)
        if version is None:
            problems.append(_invalid(label, text, 'must be "latest" or "v1.x"'))
        minor = LATEST if version is None else version
    return LevelVersion(level, minor)


def _invalid(label: str, value: str, detail: str) -> FieldError:
    return invalid(f"metadata.labels[{label}]", value, detail)
