"""Tables: where the texts of their columns come from."""

from __future__ import annotations

import pytest

from tiphys.api import table
from tiphys.api.catalog import Catalog, builtin
from tiphys.api.kinds.all import kinds


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return builtin(kinds())


def _texts(catalog: Catalog, group: str, version: str, plural: str) -> dict[str, str]:
    info = catalog.get(group, version, plural)
    assert info is not None
    return {column["name"]: column["description"] for column in table.definitions(info)}


def test_columns_of_autoscalers_read_the_same_in_every_version(catalog: Catalog) -> None:
    one, two = (_texts(catalog, "autoscaling", version, "horizontalpodautoscalers") for version in ("v1", "v2"))
    assert one == two


def test_both_groups_of_events_have_the_columns_of_the_older(catalog: Catalog) -> None:
    old, new = (_texts(catalog, group, "v1", "events") for group in ("", "events.k8s.io"))
    assert old == new
    assert all(old.values())


def test_a_kind_without_a_printer_shows_when_its_objects_were_created(catalog: Catalog) -> None:
    assert list(_texts(catalog, "storage.k8s.io", "v1", "csistoragecapacities")) == ["Name", "Created At"]
