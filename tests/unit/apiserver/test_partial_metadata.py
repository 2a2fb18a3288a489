"""PartialObjectMetadata shows what is metadata, not what a version of a kind keeps there."""

from __future__ import annotations

from tiphys.apiserver.forms import partial

COUNT = "deprecated.daemonset.template.generation"


def test_what_is_a_field_elsewhere_is_no_annotation_of_the_metadata_alone() -> None:
    alone = {"metadata": {"name": "d", "annotations": {COUNT: "1"}}}
    assert partial(alone, "meta.k8s.io/v1")["metadata"] == {"name": "d"}
    among = {"metadata": {"annotations": {COUNT: "1", "a": "b"}}}
    assert partial(among, "meta.k8s.io/v1")["metadata"] == {"annotations": {"a": "b"}}
    assert among["metadata"]["annotations"] == {COUNT: "1", "a": "b"}
