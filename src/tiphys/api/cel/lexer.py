"""Source text to tokens, and the literals that tokens stand for.

Grammar: cel-spec langdef.md, "Syntax"; escapes as in GoogleSQL. Line ends within strings become a newline.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tiphys.api.cel.source import Source

END = "<EOF>"

_ESCAPE = r"""\\(?:[abfnrtv"'\\?`]|[0-3][0-7][0-7]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"""
_STRING = "|".join(
    (
        r'[rR]"""(?:(?!""")[\s\S])*"""',
        r"[rR]'''(?:(?!''')[\s\S])*'''",
        r'[rR]"[^"\n\r]*"',
        r"[rR]'[^'\n\r]*'",
        rf'"""(?:(?!"""){_ESCAPE}|(?!""")[^\\])*"""',
        rf"'''(?:(?!'''){_ESCAPE}|(?!''')[^\\])*'''",
        rf'"(?:{_ESCAPE}|[^\\"\n\r])*"',
        rf"'(?:{_ESCAPE}|[^\\'\n\r])*'",
    )
)
_TOKEN = re.compile(
    rf"""
      (?P<blank>[\t\ \r\n\f]+|//[^\n]*)
    | (?P<NUM_FLOAT>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    | (?P<NUM_UINT>0x[0-9a-fA-F]+[uU]|[0-9]+[uU])
    | (?P<NUM_INT>0x[0-9a-fA-F]+|[0-9]+)
    | (?P<BYTES>[bB](?:{_STRING}))
    | (?P<STRING>{_STRING})
    | (?P<IDENTIFIER>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<ESC_IDENTIFIER>`[A-Za-z0-9_.\-/\ ]+`)
    | (?P<op>==|!=|<=|>=|&&|\|\||[\[\]{{}}()<>.,\-!?:+*/%])
    """,
    re.VERBOSE,
)
_KEYWORDS = frozenset(("in", "true", "false", "null"))


_WORDS = """
true false null in as break const continue else for function if import let loop package namespace return var void while
"""
RESERVED = frozenset(_WORDS.split())
"""Words that are no names of variables or functions; fields may have them."""


class Token(NamedTuple):
    """`kind` is the class of a literal or identifier, or the text itself of operators and keywords."""

    kind: str
    text: str
    offset: int


def tokens(source: Source) -> list[Token]:
    """All tokens and the end; what is no token is reported and skipped."""
    text, at, found = source.text, 0, []
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            at = _unrecognized(source, at)
            continue
        kind = str(match.lastgroup)
        if kind != "blank":
            word = match.group()
            found.append(Token(word if kind == "op" or word in _KEYWORDS else kind, word, at))
        at = match.end()
    found.append(Token(END, END, len(text)))
    return found


def _unrecognized(source: Source, at: int) -> int:
    """Report the longest text that began like a token and was none; the offset behind it."""
    text = source.text
    end = at + 1
    if text[at] in "\"'":
        while end < len(text) and text[end] not in "\n\r" and text[end] != text[at]:
            end += 1
        end = min(end + 1, len(text)) if end < len(text) and text[end] == text[at] else end
    elif text[at] in "&|=" or text[at] == "`":
        end = min(at + 2, len(text)) if text[at] != "`" else at + 1
        end = at + 1 if end > at + 1 and not text[at + 1].strip() else end
    shown = text[at:end].replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    source.report(at, f"Syntax error: token recognition error at: '{shown}'")
    return end


_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "`": "`",
    "?": "?",
}
_ESCAPES = re.compile(_ESCAPE)


def string_value(text: str) -> str:
    """The value of a string literal. Raises ValueError with upstream's reason."""
    body, raw = _unquoted(text)
    return body if raw else _ESCAPES.sub(_character, body)


def bytes_value(text: str) -> bytes:
    """The value of a bytes literal, `text` without its `b`. Raises ValueError with upstream's reason."""
    body, raw = _unquoted(text)
    if raw:
        return body.encode()
    out, at = bytearray(), 0
    for match in _ESCAPES.finditer(body):
        out += body[at : match.start()].encode()
        out += _octet(match.group()[1:])
        at = match.end()
    return bytes(out + body[at:].encode())


def _unquoted(text: str) -> tuple[str, bool]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    raw = text[0] in "rR"
    text = text[1:] if raw else text
    size = 3 if len(text) >= 6 and text[:3] in ('"""', "'''") else 1
    return text[size:-size], raw


def _code(escape: str) -> int | None:
    if escape[0] in "xXuU":
        return int(escape[1:], 16)
    return int(escape, 8) if escape[0] in "0123" else None


def _character(match: re.Match[str]) -> str:
    escape = match.group()[1:]
    code = _code(escape)
    if code is None:
        return _SIMPLE[escape]
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ValueError("invalid unicode code point")
    return chr(code)


def _octet(escape: str) -> bytes:
    if escape[0] in "uU":
        raise ValueError("unable to unescape string")
    code = _code(escape)
    return _SIMPLE[escape].encode() if code is None else bytes((code & 0xFF,))
