"""Sets of characters in patterns: sorted ranges of code points that neither overlap nor touch."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable
from functools import cache

Ranges = tuple[tuple[int, int], ...]

LAST = 0x10FFFF
ANY: Ranges = ((0, LAST),)
DIGIT: Ranges = ((48, 57),)
WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))


def normal(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted, overlaps joined."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def invert(ranges: Ranges) -> Ranges:
    found, start = [], 0
    for low, high in ranges:
        if low > start:
            found.append((start, low - 1))
        start = high + 1
    if start <= LAST:
        found.append((start, LAST))
    return tuple(found)


PERL: dict[str, Ranges] = {"d": DIGIT, "w": WORD, "s": _SPACE}
PERL |= {letter.upper(): invert(ranges) for letter, ranges in PERL.items()}

NAMED: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": DIGIT,
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": WORD,
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}


def fold(ranges: Ranges) -> Ranges:
    """The same characters in either case."""
    found = list(ranges)
    for low, high in ranges:
        if high - low < 0x3000:
            for code in range(low, high + 1):
                found += ((other, other) for other in _cases(code))
    return normal(found)


def _cases(code: int) -> set[int]:
    char = chr(code)
    texts = {char.lower(), char.upper(), char.lower().upper(), char.upper().lower()}
    return {ord(text) for text in texts if len(text) == 1} | ({0x212A} if char in "kK" else set())


@cache
def unicode_class(name: str) -> Ranges | None:
    r"""The characters of \p{name}: a general category, or Any, or one of the scripts that names tell."""
    if name == "Any":
        return ANY
    if len(name) <= 2:
        return _where(lambda char: unicodedata.category(char).startswith(name)) or None
    if name in _SCRIPTS:
        prefix = _SCRIPTS[name]
        return _where(lambda char: unicodedata.name(char, "").startswith(prefix))
    return None


_SCRIPTS = {
    "Arabic": "ARABIC",
    "Cyrillic": "CYRILLIC",
    "Devanagari": "DEVANAGARI",
    "Greek": "GREEK",
    "Han": "CJK",
    "Hangul": "HANGUL",
    "Hebrew": "HEBREW",
    "Hiragana": "HIRAGANA",
    "Katakana": "KATAKANA",
    "Latin": "LATIN",
    "Thai": "THAI",
}


def _where(test: object) -> Ranges:
    assert callable(test)
    return normal((code, code) for code in range(sys.maxunicode + 1) if test(chr(code)))
