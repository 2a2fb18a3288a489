"""The syntax of regular expressions that Go and RE2 know, read into a small tree; with Go's words for what is wrong.

A node is a tuple whose first item says what it is:

    ("chars", ((first, last), ...))     one code point out of sorted ranges
    ("cat", (node, ...))   ("alt", (node, ...))   ("empty",)
    ("repeat", node, least, most or None, greedy)
    ("assert", name)                    begin, end, line_begin, line_end, word, not_word

Groups leave no trace: nobody here asks what they captured. Source: the documentation of regexp/syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tiphys.api.cel.libraries.re2_classes import ANY, DIGIT, LAST, NAMED, PERL, fold, invert, normal, unicode_class

Node = tuple[object, ...]
Ranges = tuple[tuple[int, int], ...]

_MOST_REPEATS = 1000
_DEEPEST = 100
_NOT_NEWLINE: Ranges = ((0, 9), (11, LAST))
_CONTROL = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_PUNCTUATION = frozenset(map(chr, range(33, 127))) - frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
)
_COUNT = re.compile(r"\{(\d+)(,(\d*))?\}", re.ASCII)
_GROUP_NAME = re.compile(r"\(\?P?<([^>]*)>")
_FLAGS = re.compile(r"\(\?([imsU]*)(-[imsU]+)?([:)])")
_EMPTY: Node = ("empty",)


class PatternError(ValueError):
    """Not a pattern; the text is Go's."""

    def __init__(self, code: str, where: str) -> None:
        super().__init__(f"error parsing regexp: {code}: `{where}`" if where else f"error parsing regexp: {code}")


def parse(pattern: str) -> Node:
    """Raises PatternError."""
    return _Parser(pattern).parse()


class _Parser:
    """Recursive descent; `at` is the position in the pattern."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0
        self.flags = frozenset("")

    def parse(self) -> Node:
        node = self.alternatives()
        if self.at < len(self.pattern):
            raise PatternError("unexpected )", self.pattern)
        return node

    def alternatives(self) -> Node:
        branches = [self.branch()]
        while self.peek("|"):
            self.at += 1
            branches.append(self.branch())
        return branches[0] if len(branches) == 1 else ("alt", tuple(branches))

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def branch(self) -> Node:
        items: list[Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            start = self.at
            if self.peek(r"\Q"):
                items += self.quoted()
                continue
            if self.pattern[self.at] in "*+?" or _COUNT.match(self.pattern, self.at):
                end = self.repetition_end()
                raise PatternError("missing argument to repetition operator", self.pattern[start:end])
            atom = self.atom()
            if atom is not None:
                items.append(self.repeated(atom))
        return items[0] if len(items) == 1 else ("cat", tuple(items)) if items else _EMPTY

    def quoted(self) -> list[Node]:
        end = self.pattern.find(r"\E", self.at)
        text = self.pattern[self.at + 2 : end if end >= 0 else None]
        self.at = len(self.pattern) if end < 0 else end + 2
        items = [self.literal(ord(char)) for char in text]
        if items:
            items[-1] = self.repeated(items[-1])
        return items

    def repetition_end(self) -> int:
        match = _COUNT.match(self.pattern, self.at)
        end = match.end() if match else self.at + 1
        return end + 1 if self.pattern[end : end + 1] == "?" else end

    def repeated(self, node: Node) -> Node:
        before, times = -1, 1
        while self.at < len(self.pattern):
            start = self.at
            char = self.pattern[start]
            count = _COUNT.match(self.pattern, start) if char == "{" else None
            if char not in "*+?" and count is None:
                return node
            self.at = self.repetition_end()
            if before >= 0:
                raise PatternError("invalid nested repetition operator", self.pattern[before : self.at])
            greedy = self.pattern[self.at - 1] != "?" or self.at - start == 1
            if count is None:
                least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
            else:
                least, most = self.counts(count)
                times = max(least, most or 0)
            if times > _MOST_REPEATS:
                raise PatternError("invalid repeat count", self.pattern[start : count.end() if count else self.at])
            node = ("repeat", node, least, most, greedy != ("U" in self.flags))
            before = start
        return node

    def counts(self, match: re.Match[str]) -> tuple[int, int | None]:
        if len(match[1]) > 5 or len(match[3] or "") > 5:
            raise PatternError("invalid repeat count", match[0])
        least = int(match[1])
        most = least if match[2] is None else int(match[3]) if match[3] else None
        if least > _MOST_REPEATS or (most is not None and (most > _MOST_REPEATS or most < least)):
            raise PatternError("invalid repeat count", match[0])
        return least, most

    def atom(self) -> Node | None:
        char = self.pattern[self.at]
        if char == "(":
            return self.group()
        if char == "[":
            return self.bracket()
        if char == "\\":
            return self.escape()
        self.at += 1
        if char == ".":
            return ("chars", ANY if "s" in self.flags else _NOT_NEWLINE)
        if char == "^":
            return ("assert", "line_begin" if "m" in self.flags else "begin")
        if char == "$":
            return ("assert", "line_end" if "m" in self.flags else "end")
        return self.literal(ord(char))

    def literal(self, code: int) -> Node:
        ranges: Ranges = ((code, code),)
        return ("chars", fold(ranges) if "i" in self.flags else ranges)

    def group(self) -> Node | None:
        """A group; None for one that only sets flags."""
        outer = self.flags
        if self.peek("(?"):
            name, flags = _GROUP_NAME.match(self.pattern, self.at), _FLAGS.match(self.pattern, self.at)
            if name is not None:
                if not re.fullmatch(r"\w+", name[1], re.ASCII):
                    raise PatternError("invalid named capture", name[0])
                self.at = name.end()
            elif flags is not None and (flags[1] or flags[2] or flags[3] == ":"):
                self.flags = (outer | frozenset(flags[1])) - frozenset(flags[2] or "")
                self.at = flags.end()
                if flags[3] == ")":
                    return None
            else:
                raise self.bad_group()
        else:
            self.at += 1
        self.depth += 1
        if self.depth > _DEEPEST:
            raise PatternError("expression nests too deeply", self.pattern)
        node = self.alternatives()
        if not self.peek(")"):
            raise PatternError("missing closing )", self.pattern)
        self.at, self.flags, self.depth = self.at + 1, outer, self.depth - 1
        return node

    def bad_group(self) -> PatternError:
        rest = self.pattern[self.at :]
        if rest.startswith(("(?P<", "(?<")) and not rest.startswith(("(?<=", "(?<!")):
            return PatternError("invalid named capture", rest)
        length = 4 if rest.startswith(("(?<=", "(?<!")) else 3
        return PatternError("invalid or unsupported Perl syntax", rest[:length])

    def escape(self) -> Node:
        if self.at + 1 >= len(self.pattern):
            raise PatternError("trailing backslash at end of expression", "")
        letter = self.pattern[self.at + 1]
        if letter in "AzbB":
            self.at += 2
            return ("assert", {"A": "begin", "z": "end", "b": "word", "B": "not_word"}[letter])
        ranges = self.class_escape()
        if ranges is not None:
            return ("chars", ranges)
        return self.literal(self.character())

    def class_escape(self) -> Ranges | None:
        r"""\d \w \s and Unicode classes; None when something else follows."""
        letter = self.pattern[self.at + 1 : self.at + 2]
        if letter in PERL:
            self.at += 2
            return self.folded(PERL[letter])
        if letter not in ("p", "P") or not letter:
            return None
        start = self.at
        name, self.at = self.pattern[start + 2 : start + 3], start + 3
        if name == "{":
            end = self.pattern.find("}", start)
            if end < 0:
                raise PatternError("invalid character class range", self.pattern[start:])
            name, self.at = self.pattern[start + 3 : end], end + 1
        negative = (letter == "P") != name.startswith("^")
        ranges = unicode_class(name.removeprefix("^"))
        if ranges is None:
            raise PatternError("invalid character class range", self.pattern[start : self.at])
        return invert(self.folded(ranges)) if negative else self.folded(ranges)

    def folded(self, ranges: Ranges) -> Ranges:
        return fold(ranges) if "i" in self.flags else ranges

    def character(self) -> int:
        """The code point that an escape names."""
        start, letter = self.at, self.pattern[self.at + 1]
        self.at += 2
        if letter in _PUNCTUATION:
            return ord(letter)
        if letter in _CONTROL:
            return _CONTROL[letter]
        octal = re.compile("[1-7][0-7]{1,2}|0[0-7]{0,2}").match(self.pattern, start + 1)
        if octal is not None:
            self.at = octal.end()
            return int(octal[0], 8)
        match = re.compile(r"\\x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\})").match(self.pattern, start)
        if match is None or int(match[1] or match[2], 16) > LAST:
            raise PatternError("invalid escape sequence", self.pattern[start : self.at])
        self.at = match.end()
        return int(match[1] or match[2], 16)

    def bracket(self) -> Node:
        start = self.at
        self.at += 1
        negative = self.peek("^")
        self.at += negative
        found: list[tuple[int, int]] = []
        first = True
        while first or not self.peek("]"):
            if self.at >= len(self.pattern):
                raise PatternError("missing closing ]", self.pattern[start:])
            found += self.bracket_item(start, first=first)
            first = False
        self.at += 1
        ranges = self.folded(normal(found))
        return ("chars", invert(ranges) if negative else ranges)

    def bracket_item(self, start: int, *, first: bool) -> Iterable[tuple[int, int]]:
        if self.peek("[:"):
            end = self.pattern.find(":]", self.at + 2)
            if end >= 0:
                name = self.pattern[self.at : end + 2]
                negative = name.startswith("[:^")
                ranges = NAMED.get(name[3 if negative else 2 : -2])
                if ranges is None:
                    raise PatternError("invalid character class range", name)
                self.at = end + 2
                return invert(ranges) if negative else ranges
        if self.peek("\\") and (ranges := self.class_escape()) is not None:
            return ranges
        return (self.bracket_range(start, first=first),)

    def bracket_range(self, start: int, *, first: bool) -> tuple[int, int]:
        begin = self.at
        if self.peek("-") and not first and not self.pattern.startswith("-]", begin):
            after = self.pattern[begin : begin + 2]
            raise PatternError("invalid character class range", after)
        low = high = self.bracket_character(start)
        if self.peek("-") and not self.peek("-]") and self.at + 1 < len(self.pattern):
            self.at += 1
            high = self.bracket_character(start)
            if high < low:
                raise PatternError("invalid character class range", self.pattern[begin : self.at])
        return low, high

    def bracket_character(self, start: int) -> int:
        if self.at >= len(self.pattern):
            raise PatternError("missing closing ]", self.pattern[start:])
        if self.peek("\\"):
            if self.at + 1 >= len(self.pattern):
                raise PatternError("trailing backslash at end of expression", "")
            return self.character()
        self.at += 1
        return ord(self.pattern[self.at - 1])


__all__ = ["DIGIT", "Node", "PatternError", "Ranges", "parse"]
