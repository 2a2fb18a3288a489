"""Warning headers (RFC 7234, section 5.5) of the texts that a request has gathered: kinds, webhooks, policies warn.

Texts come from outside, so they are told once, only if they have no control characters, and only so long as upstream
lets them be: from 4,096 characters in all on, each is cut to 256.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST, MOST_EACH = 4096, 256
"""Characters of all texts, and of one if there are too many."""


def header(texts: Iterable[str]) -> str:
    """The value of one Warning header for all; "" if there is nothing to say."""
    fit = [text for text in dict.fromkeys(texts) if text and _printable(text)]
    if sum(map(len, fit)) > MOST:
        fit = list(_cut(fit))
    return ", ".join(f'299 - "{_wire(text)}"' for text in fit)


def _cut(texts: Iterable[str]) -> Iterable[str]:
    written = 0
    for text in texts:
        if written >= MOST:
            return
        written += min(len(text), MOST_EACH)
        yield text[:MOST_EACH]


def _printable(text: str) -> bool:
    """Whether there are no control characters (Unicode's Cc), nor halves of characters, in a text."""
    return not any(char < " " or "\x7f" <= char < "\xa0" or "\ud800" <= char < "\ue000" for char in text)


def _wire(text: str) -> str:
    """Quoted, and as what UTF-8's bytes are in Latin-1, which headers are written in."""
    return text.replace("\\", "\\\\").replace('"', '\\"').encode().decode("latin-1")
