"""What commands print: results on stdout, progress and errors on stderr; text for people or JSON for programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.base.clock import SystemClock


class Output:
    """One command's printing, as --quiet and --output ask for it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.quiet: bool = options.quiet
        self.json: bool = options.output == "json"
        self._clock = SystemClock()
        self._start = self._clock.monotonic()

    def step(self, text: str) -> None:
        """A short line of progress: what was done, and when since the start."""
        if not self.quiet and not self.json:
            seconds = self._clock.monotonic() - self._start
            mark = "\033[32m✓\033[0m" if sys.stderr.isatty() else "-"
            print(f" {mark} {text} ({seconds:.1f} s)", file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        """A part of the work that failed, while the rest went on: printed in any case."""
        print(f"tiphys: {text}", file=sys.stderr, flush=True)

    def result(self, value: Any, text: str) -> None:
        """The answer: `value` as JSON, or `text` (nothing when it is empty or --quiet was given)."""
        if self.json:
            print(json.dumps(value, indent=2))
        elif text and not self.quiet:
            print(text)

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """`rows` as aligned columns under capital headings; their keys are the columns in lower case."""
        if self.json:
            print(json.dumps(list(rows), indent=2))
            return
        lines = [[str(row[column.lower().replace(" ", "_")]) for column in columns] for row in rows]
        if self.quiet:
            print("\n".join(line[0] for line in lines)) if lines else None
            return
        widths = [max(len(line[i]) for line in [list(columns), *lines]) for i in range(len(columns))]
        for line in [[column.upper() for column in columns], *lines]:
            print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def add_common(parser: argparse.ArgumentParser) -> None:
    """The flags that every command has."""
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors (lists: names only)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="output format (text)")
