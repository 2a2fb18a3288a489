"""What the functions of strings do: cel-go's `strings` extension, version 2. Positions are code points."""

from __future__ import annotations

from tiphys.api.cel.types import EvaluationError

LONGEST = 32 * 1024 * 1024
"""Characters of a text that one call may make. The cost of a call counts what goes in, so that `replace` or `join`
could ask for more memory than there is."""

_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_LOWER = {ord(c): ord(c) + 32 for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_UPPER = {lower: upper for upper, lower in _LOWER.items()}
_ESCAPES = str.maketrans(
    {
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\v": "\\v",
        "\\": "\\\\",
        '"': '\\"',
    }
)


def check_length(characters: int) -> None:
    """Raises EvaluationError when a result would be longer than `LONGEST`."""
    if characters > LONGEST:
        raise EvaluationError(f"result of {characters} characters exceeds the limit of {LONGEST}")


def char_at(text: str, index: int) -> str:
    if not 0 <= index <= len(text):
        raise EvaluationError(f"index out of range: {index}")
    return text[index : index + 1]


def index_of(text: str, part: str, offset: int = 0) -> int:
    if not part:
        return offset
    if offset < 0:
        raise EvaluationError(f"index out of range: {offset}")
    return text.find(part, offset)


def last_index_of(text: str, part: str) -> int:
    return text.rfind(part) if part else len(text)


def last_index_of_from(text: str, part: str, offset: int) -> int:
    if not part:
        return offset
    if offset < 0:
        raise EvaluationError(f"index out of range: {offset}")
    return -1 if offset >= len(text) else text.rfind(part, 0, offset + len(part))


def lower_ascii(text: str) -> str:
    return text.translate(_LOWER)


def upper_ascii(text: str) -> str:
    return text.translate(_UPPER)


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    """A negative `count` replaces all."""
    if len(new) > len(old):
        found = text.count(old)
        times = found if count < 0 else min(found, count)
        check_length(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, max(count, -1))


def split(text: str, separator: str, limit: int = -1) -> list[str]:
    """At most `limit` parts, the last one unsplit; a negative one means all."""
    if limit == 0:
        return []
    if separator:
        return text.split(separator, limit - 1 if limit > 0 else -1)
    if limit < 0 or limit >= len(text):
        return list(text)
    return [*text[: limit - 1], text[limit - 1 :]]


def substring(text: str, start: int) -> str:
    if not 0 <= start <= len(text):
        raise EvaluationError(f"index out of range: {start}")
    return text[start:]


def substring_range(text: str, start: int, end: int) -> str:
    if start > end:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    for index in (start, end):
        if not 0 <= index <= len(text):
            raise EvaluationError(f"index out of range: {index}")
    return text[start:end]


def trim(text: str) -> str:
    return text.strip(_SPACE)


def quote(text: str) -> str:
    """`text` as a CEL literal."""
    return f'"{text.translate(_ESCAPES)}"'


def join(parts: list[str], separator: str = "") -> str:
    for part in parts:
        if not isinstance(part, str):
            raise EvaluationError(f"join: invalid input: {part}")
    check_length(sum(map(len, parts)) + len(separator) * max(len(parts) - 1, 0))
    return separator.join(parts)
