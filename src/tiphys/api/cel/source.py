"""The source of an expression and the text of its errors, pointing into it as upstream's do."""

from __future__ import annotations

from bisect import bisect_right

from tiphys.api.cel.types import CompileError

MAX_ERRORS = 100
MAX_SNIPPET = 16384


class Source:
    """An expression's text with the errors found in it so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0]
        for at, character in enumerate(text):
            if character == "\n":
                self._starts.append(at + 1)
        self._errors: list[tuple[int, int, str]] = []
        self._count = 0

    def report(self, offset: int, message: str) -> None:
        """Record an error; a negative offset has no place in the source."""
        self._count += 1
        if len(self._errors) < MAX_ERRORS:
            self._errors.append((*self.place(offset), message))

    @property
    def failed(self) -> bool:
        return self._count > 0

    def place(self, offset: int) -> tuple[int, int]:
        """Line from 1 and column from 0."""
        if offset < 0:
            return -1, -1
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1]

    def error(self) -> CompileError:
        """All recorded errors as one, in the order of their places."""
        issues = sorted(self._errors, key=lambda issue: issue[:2])
        lines = [self._display(*issue) for issue in issues]
        if self._count > MAX_ERRORS:
            lines.append(f"{self._count - MAX_ERRORS} more errors were truncated")
        return CompileError("\n".join(lines), issues)

    def _display(self, line: int, column: int, message: str) -> str:
        text = f"ERROR: <input>:{line}:{column + 1}: {message}"
        if line < 1:
            return text
        end = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        snippet = self.text[self._starts[line - 1] : end]
        if len(snippet) > MAX_SNIPPET:
            return text
        snippet = snippet.replace("\t", " ")
        dots = "".join("．" if ord(character) > 127 else "." for character in snippet[:column])
        wide = column < len(snippet) and ord(snippet[column]) > 127
        return f"{text}\n | {snippet}\n | {dots}{'＾' if wide else '^'}"
