"""The five fields of a cron schedule, in the dialect of upstream's parser (robfig/cron v3, "standard")."""

from __future__ import annotations

import re

from tiphys.api.kinds.base import quote

_MONTHS = {
    n: i for i, n in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_DAYS = {n: i for i, n in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_DURATION = re.compile(
    r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*|[-+]?0"
)


def problem(schedule: str) -> str:
    """Why the text is no schedule; '' when it is one."""
    try:
        _parse(schedule)
    except ValueError as error:
        return str(error)
    return ""


def _parse(schedule: str) -> None:
    if not schedule:
        raise ValueError("empty spec string")
    text = schedule
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        text = schedule.partition(" ")[2].strip()
    if text.startswith("@"):
        _descriptor(text)
        return
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    for field, (low, high, names) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if part:
                _range(part, low, high, names)


def _descriptor(text: str) -> None:
    if text in _DESCRIPTORS:
        return
    if text.startswith("@every "):
        duration = text.removeprefix("@every ")
        if not _DURATION.fullmatch(duration):
            raise ValueError(f"failed to parse duration {text}: time: invalid duration {quote(duration)}")
        return
    raise ValueError(f"unrecognized descriptor: {text}")


def _range(text: str, low: int, high: int, names: dict[str, int]) -> None:
    span, *steps = text.split("/")
    start_text, *ends = span.split("-")
    single = not ends
    if start_text in ("*", "?"):
        start, end = low, high
    else:
        start = end = _number(start_text, names)
        if len(ends) > 1:
            raise ValueError(f"too many hyphens: {text}")
        if ends:
            end = _number(ends[0], names)
    step = 1
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {text}")
    if steps:
        step = _integer(steps[0])
        if single:
            end = high
    if start < low:
        raise ValueError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise ValueError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")


def _number(text: str, names: dict[str, int]) -> int:
    return names[text.lower()] if text.lower() in names else _integer(text)


def _integer(text: str) -> int:
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        raise ValueError(f"failed to parse int from {text}: strconv.Atoi: parsing {quote(text)}: invalid syntax")
    value = int(text)
    if value < 0:
        raise ValueError(f"negative number ({value}) not allowed: {text}")
    return value
