"""Options of pods/log that make no sense are refused before any kubelet is asked."""

from __future__ import annotations

import pytest

from tiphys.apiserver.podlogoptions import check
from tiphys.base.errors import BadRequest, Invalid


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"tailLines": "-1"}, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"limitBytes": "0"}, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ({"stream": "both"}, 'stream: Unsupported value: "both": supported values: "All", "Stderr", "Stdout"'),
        (
            {"sinceSeconds": "1", "sinceTime": "2026-01-01T00:00:00Z"},
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        (
            {"stream": "Stdout", "tailLines": "1"},
            "`tailLines` and specific `stream` are mutually exclusive for now",
        ),
    ],
)
def test_what_makes_no_sense_is_invalid(query: dict[str, str], message: str) -> None:
    with pytest.raises(Invalid) as refused:
        check("web", query)
    assert refused.value.message.startswith('PodLogOptions "web" is invalid: ')
    assert message in refused.value.message


@pytest.mark.parametrize("query", [{"tailLines": "x"}, {"sinceTime": "yesterday"}])
def test_what_cannot_be_read_is_a_bad_request(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        check("web", query)


def test_sensible_options_pass() -> None:
    check("web", {})
    check("web", {"tailLines": "0", "limitBytes": "1", "sinceSeconds": "5", "stream": "All"})
    check("web", {"stream": "Stderr", "sinceTime": "2026-01-01T00:00:00.5Z"})
