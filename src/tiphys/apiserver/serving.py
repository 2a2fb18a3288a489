"""What is served at this moment: the catalog, and the resources that answer for it.

Both are values that are replaced when a CustomResourceDefinition comes, changes or goes; whoever answers requests looks
here each time, which costs an attribute and a dict get.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tiphys.api.catalog import Catalog
from tiphys.apiserver.resource import Key, Resource


@dataclass(frozen=True, slots=True)
class Definition:
    """A CustomResourceDefinition whose resources discovery shows, for OpenAPI."""

    name: str
    group: str
    uid: str
    generation: int
    names: str
    """The accepted names, to tell whether they have changed."""
    versions: tuple[str, ...]
    """The served ones."""
    item: bytes
    """The definition itself as JSON."""


class Serving:
    """See the module's docstring. Only `extensions.registry` replaces anything."""

    __slots__ = ("builtin", "catalog", "definitions", "resources")

    def __init__(self, catalog: Catalog, resources: Mapping[Key, Resource]) -> None:
        self.builtin = catalog
        """What is served without any CustomResourceDefinition."""
        self.catalog, self.resources = catalog, resources
        self.definitions: Callable[[], list[Definition]] = list
        """The definitions behind what is not built in, by name."""

    def replace(self, catalog: Catalog, resources: Mapping[Key, Resource]) -> None:
        """Serve something else from now on."""
        self.catalog, self.resources = catalog, resources
