"""Stored bytes and the items that are spliced from them."""

from __future__ import annotations

import orjson

from tiphys.apiserver import codec

HEAD = codec.head("ConfigMap", "v1")


def test_kind_version_and_metadata_come_first_and_resource_version_is_left_out() -> None:
    stored = codec.encode({"data": {"a": "b"}, "metadata": {"name": "x", "resourceVersion": "9"}}, "ConfigMap", "v1")
    assert stored == b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a":"b"}}'


def test_the_resource_version_is_spliced_into_an_item() -> None:
    stored = codec.encode({"metadata": {"name": "x"}, "data": {"metadata": "{"}}, "ConfigMap", "v1")
    assert codec.item(stored, HEAD, 12) == b'{"metadata":{"resourceVersion":"12","name":"x"},"data":{"metadata":"{"}}'


def test_an_object_that_was_never_written_has_no_resource_version() -> None:
    stored = codec.encode({"metadata": {"name": "x"}}, "ConfigMap", "v1")
    assert codec.item(stored, HEAD, 0) == b'{"metadata":{"name":"x"}}'


def test_bytes_of_another_shape_are_read_all_the_same() -> None:
    item = codec.item(b'{"data":{},"metadata":{"name":"x"},"kind":"ConfigMap"}', HEAD, 3)
    assert orjson.loads(item) == {"metadata": {"resourceVersion": "3", "name": "x"}, "data": {}}
