"""Owner references that were sent twice are kept once."""

from __future__ import annotations

from typing import Any

from tiphys.apiserver.metadata import distinct_owners


def test_the_same_owner_twice_is_one_and_its_sender_is_warned() -> None:
    one, other = {"uid": "u1", "name": "a"}, {"uid": "u1", "name": "b"}
    metadata: dict[str, Any] = {"ownerReferences": [one, dict(one), other]}
    (text,) = distinct_owners(metadata)
    assert metadata["ownerReferences"] == [one, other]
    assert text.startswith(".metadata.ownerReferences contains duplicate entries; API server dedups")
    assert text.endswith("duplicate UID(s) observed: u1")
    assert distinct_owners(metadata) == []


def test_a_patch_is_warned_in_other_words() -> None:
    metadata: dict[str, Any] = {"ownerReferences": [{"uid": "u"}, {"uid": "u"}]}
    (text,) = distinct_owners(metadata, admitted=True)
    assert "after mutating admission happens" in text
