"""Logging: one line an event, no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from tiphys.base import log


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_text_is_one_line_with_its_fields(root: logging.Logger) -> None:
    stream = io.StringIO()
    log.configure("info", stream=stream)
    logging.getLogger("tiphys.x").info("pod\nstarted", extra={"pod": "a/b"})
    logging.getLogger("tiphys.x").debug("not shown")
    line = stream.getvalue()
    assert line.endswith(" INFO tiphys.x: pod\\nstarted pod=a/b\n")


def test_json_has_fields_and_traceback(root: logging.Logger) -> None:
    stream = io.StringIO()
    log.configure("DEBUG", "json", stream)
    try:
        raise LookupError("nowhere")
    except LookupError:
        logging.getLogger("tiphys.x").exception("failed", extra={"pod": "a"})
    entry = json.loads(stream.getvalue())
    assert (entry["level"], entry["logger"], entry["msg"], entry["pod"]) == ("error", "tiphys.x", "failed", "a")
    assert "LookupError: nowhere" in entry["error"]


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.SECRET.def",
        "{'authorization': 'Basic SECRETSECRET'}",
        "GET /?token=SECRET&x=1",
        "password=SECRET",
        "-----BEGIN EC PRIVATE KEY-----\nSECRET\n-----END EC PRIVATE KEY-----",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    assert "SECRET" not in log.masked(text)


def test_ordinary_text_is_left_alone() -> None:
    text = 'pods "token-x" not found: secret "a" is missing'
    assert log.masked(text) == text
