"""The image database when somebody has damaged it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiphys.runtime.images.content import Content
from tiphys.runtime.types import RuntimeFailure


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff"])
def test_a_damaged_database_is_an_error_that_names_it_and_is_left_alone(tmp_path: Path, content: bytes) -> None:
    database = Content(tmp_path)
    (tmp_path / "images.json").write_bytes(content)
    with pytest.raises(RuntimeFailure, match=r"images\.json is damaged"):
        database.names()
    with pytest.raises(RuntimeFailure), database.changing():
        pass
    assert (tmp_path / "images.json").read_bytes() == content
