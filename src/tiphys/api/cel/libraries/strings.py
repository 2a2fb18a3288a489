"""The `strings` library: cel-go's extension, version 2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tiphys.api.cel.costs import MAX, TRAVERSAL, ZERO, CallEstimate, Node, Range, traversal
from tiphys.api.cel.libraries import formatting, text
from tiphys.api.cel.libraries.sizes import estimate_traversal, share, traversal_cost, walk, within
from tiphys.api.cel.types import DYN, INT, STRING, Function, Library, Overload, Type, list_of
from tiphys.api.cel.values import size_of

_STRINGS = list_of(STRING)


def _transform(id: str, implementation: Any, *more: Type) -> Overload:
    """A string made of the receiver, no longer than it."""
    return Overload(
        id, (STRING, *more), STRING, implementation, member=True, cost=walk(), estimate=traversal(keeps_size=True)
    )


def _search(id: str, implementation: Any, *more: Type) -> Overload:
    return Overload(
        id,
        (STRING, STRING, *more),
        INT,
        implementation,
        member=True,
        cost=traversal_cost,
        estimate=estimate_traversal,
    )


def _estimate_replace(nodes: Sequence[Node]) -> CallEstimate:
    size, old, new = (node.size for node in nodes[:3])
    most_kept = most = 0
    if old.minimum == 0:
        most, most_kept = min(size.maximum + 1, MAX), size.maximum
    elif new.maximum <= old.minimum:
        most_kept = size.maximum
    else:
        most = math.ceil(float(size.maximum) / float(old.minimum))
    least_kept = least = 0
    if old.maximum == 0:
        least, least_kept = min(size.minimum + 1, MAX), size.minimum
    elif old.maximum <= new.minimum:
        least_kept = size.minimum
    else:
        least = math.ceil(float(size.minimum) / float(old.maximum))
    result = Range(least, min(most, MAX)).times(new).plus(Range(least_kept, most_kept))
    return CallEstimate(size.scaled(2 * TRAVERSAL), result)


def _estimate_split(nodes: Sequence[Node]) -> CallEstimate:
    size = nodes[0].size
    most = size.maximum
    if len(nodes) > 2 and type(limit := nodes[2].literal) is int:
        most = within(limit)
    return CallEstimate(size.scaled(2 * TRAVERSAL), Range(0, most))


def _estimate_join(nodes: Sequence[Node]) -> CallEstimate:
    size, count, items = ZERO, nodes[0].size, nodes[0].items()
    if items is not None:
        size = count.times(items.size)
    if len(nodes) > 1:
        gaps = Range(max(count.minimum - 1, 0), max(count.maximum - 1, 0))
        size = size.plus(nodes[1].size.times(gaps))
    return CallEstimate(size.scaled(TRAVERSAL), size)


def _estimate_quote(nodes: Sequence[Node]) -> CallEstimate:
    """Quotes are added, and every character may be escaped."""
    size = nodes[0].size
    return CallEstimate(size.scaled(TRAVERSAL), Range(min(size.minimum + 2, MAX), min(2 * size.maximum + 2, MAX)))


_SHORT = 1000
"""Characters of a formatted text up to which only the template counts, as upstream has it."""


def _format_cost(arguments: tuple[Any, ...], result: Any) -> int:
    """The template's length. What a large argument makes of it counts too: else one could format objects for ever."""
    return share(len(arguments[0])) + share(max(len(result) - _SHORT, 0))


def _join_cost(arguments: tuple[Any, ...], result: Any) -> int:
    return share(size_of(result), 2 * TRAVERSAL)


def _replace(id: str, *more: Type) -> Overload:
    parameters = (STRING, STRING, STRING, *more)
    return Overload(id, parameters, STRING, text.replace, member=True, cost=walk(times=2), estimate=_estimate_replace)


def _split(id: str, *more: Type) -> Overload:
    parameters = (STRING, STRING, *more)
    return Overload(id, parameters, _STRINGS, text.split, member=True, cost=walk(times=2), estimate=_estimate_split)


def _join(id: str, *more: Type) -> Overload:
    return Overload(id, (_STRINGS, *more), STRING, text.join, member=True, cost=_join_cost, estimate=_estimate_join)


STRINGS = Library(
    "cel.lib.ext.strings",
    (
        Function("charAt", (Overload("string_char_at_int", (STRING, INT), STRING, text.char_at, member=True),)),
        Function(
            "indexOf",
            (
                _search("string_index_of_string", text.index_of),
                _search("string_index_of_string_int", text.index_of, INT),
            ),
        ),
        Function(
            "lastIndexOf",
            (
                _search("string_last_index_of_string", text.last_index_of),
                _search("string_last_index_of_string_int", text.last_index_of_from, INT),
            ),
        ),
        Function("lowerAscii", (_transform("string_lower_ascii", text.lower_ascii),)),
        Function("upperAscii", (_transform("string_upper_ascii", text.upper_ascii),)),
        Function("trim", (_transform("string_trim", text.trim),)),
        Function(
            "substring",
            (
                _transform("string_substring_int", text.substring, INT),
                _transform("string_substring_int_int", text.substring_range, INT, INT),
            ),
        ),
        Function(
            "replace", (_replace("string_replace_string_string"), _replace("string_replace_string_string_int", INT))
        ),
        Function("split", (_split("string_split_string"), _split("string_split_string_int", INT))),
        Function("join", (_join("list_join"), _join("list_join_string", STRING))),
        Function(
            "format",
            (
                Overload(
                    "string_format",
                    (STRING, list_of(DYN)),
                    STRING,
                    formatting.format_text,
                    member=True,
                    cost=_format_cost,
                    estimate=traversal(),
                ),
            ),
        ),
        Function(
            "strings.quote",
            (Overload("strings_quote", (STRING,), STRING, text.quote, cost=walk(), estimate=_estimate_quote),),
        ),
    ),
)
