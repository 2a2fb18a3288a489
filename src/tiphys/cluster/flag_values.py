"""Values of flags as upstream's command lines write them; argparse.ArgumentTypeError for what is none."""

from __future__ import annotations

import argparse


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def duration(text: str) -> float:
    """Seconds of a Go duration such as 1m30s, not negative."""
    from tiphys.apiserver.configfile import duration as parse

    try:
        seconds = parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative")
    return seconds


def whole(text: str) -> int:
    """A number without a fraction, not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)
