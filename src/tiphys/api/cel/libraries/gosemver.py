"""Semantic versions (semver.org 2.0.0), with the words of the library that Kubernetes parses them with."""

from __future__ import annotations

import string
from dataclasses import dataclass

from tiphys.api.kinds.base import quote

_DIGITS = frozenset(string.digits)
_IDENTIFIER = frozenset(string.ascii_letters + string.digits + "-")


class VersionError(ValueError):
    """Not a version; the text says why."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version; the build metadata plays no part in comparisons."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[int | str, ...] = ()

    def compare(self, other: Version) -> int:
        """-1, 0 or 1."""
        mine, others = (self.major, self.minor, self.patch), (other.major, other.minor, other.patch)
        if mine != others:
            return -1 if mine < others else 1
        if not self.prerelease or not other.prerelease:
            return bool(other.prerelease) - bool(self.prerelease)
        for a, b in zip(self.prerelease, other.prerelease, strict=False):
            if a != b:
                return _compare(a, b)
        return (len(self.prerelease) > len(other.prerelease)) - (len(self.prerelease) < len(other.prerelease))


def _compare(a: int | str, b: int | str) -> int:
    """Numbers come before words."""
    if isinstance(a, int) and isinstance(b, int):
        return -1 if a < b else 1
    if isinstance(a, int) or isinstance(b, int):
        return -1 if isinstance(a, int) else 1
    return -1 if a < b else 1


def parse(text: str) -> Version:
    """Raises VersionError."""
    if not text:
        raise VersionError("Version string empty")
    parts = text.split(".", 2)
    if len(parts) != 3:
        raise VersionError("No Major.Minor.Patch elements found")
    major, minor = _number(parts[0], "major"), _number(parts[1], "minor")
    rest, plus, build = parts[2].partition("+")
    rest, dash, prerelease = rest.partition("-")
    patch = _number(rest, "patch")
    identifiers = tuple(_prerelease(part) for part in prerelease.split(".")) if dash else ()
    for part in build.split(".") if plus else ():
        _check_build(part)
    return Version(major, minor, patch, identifiers)


def normalized(text: str) -> Version:
    """A version as people write it: with a leading v, leading zeros, parts left out. Raises VersionError."""
    parts = text.removeprefix("v").split(".", 2)
    for i, part in enumerate(parts):
        if len(part) > 1:
            stripped = part.lstrip("0")
            parts[i] = stripped if stripped and stripped[0] in _DIGITS else "0" + stripped
    if len(parts) < 3:
        if any(char in "+-" for char in parts[-1]):
            raise VersionError("short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return parse(".".join(parts))


def _number(text: str, name: str) -> int:
    if any(char not in _DIGITS for char in text):
        raise VersionError(f"Invalid character(s) found in {name} number {quote(text)}")
    if len(text) > 1 and text[0] == "0":
        raise VersionError(f"{name.capitalize()} number must not contain leading zeroes {quote(text)}")
    return _unsigned(text)


def _unsigned(text: str) -> int:
    if not text:
        raise VersionError('strconv.ParseUint: parsing "": invalid syntax')
    if len(text) > 20 or int(text) >= 2**64:
        raise VersionError(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
    return int(text)


def _prerelease(text: str) -> int | str:
    if not text:
        raise VersionError("Prerelease is empty")
    if all(char in _DIGITS for char in text):
        if len(text) > 1 and text[0] == "0":
            raise VersionError(f"Numeric PreRelease version must not contain leading zeroes {quote(text)}")
        return _unsigned(text)
    if any(char not in _IDENTIFIER for char in text):
        raise VersionError(f"Invalid character(s) found in prerelease {quote(text)}")
    return text


def _check_build(text: str) -> None:
    if not text:
        raise VersionError("Build meta data is empty")
    if any(char not in _IDENTIFIER for char in text):
        raise VersionError(f"Invalid character(s) found in build meta data {quote(text)}")
