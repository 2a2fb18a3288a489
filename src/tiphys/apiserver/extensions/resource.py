"""One served version of a custom resource, and the definition behind all of its versions.

A request is handled in its own version from decoding to admission and validation; only what is written is converted to
the storage version, and what is read from whatever version it is stored in. Conversion by a webhook has to be awaited:
endpoints call `ready` for the entries that they are about to show or to change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from tiphys.api.catalog import ResourceInfo
from tiphys.api.decode.objects import DecodeError
from tiphys.api.decode.request import Codec, Expected
from tiphys.api.kinds.base import Kind
from tiphys.apiserver import codec as bytes_codec
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Entry, Stored
from tiphys.apiserver.extensions.conversion import Converter, renamed
from tiphys.apiserver.extensions.describing import VERBS, Served
from tiphys.apiserver.extensions.entries import CustomCache, CustomEntry
from tiphys.apiserver.extensions.forms import CustomForm
from tiphys.apiserver.extensions.review import failed
from tiphys.apiserver.resource import Resource

if TYPE_CHECKING:
    from tiphys.api.custom.definition import CustomDefinition, CustomVersion

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
Compile = Callable[[str], "CustomDefinition"]
"""The compiled form of the definition of that name as it is now."""


class Definition:
    """What all versions of a custom resource share: a new one for each change of the CustomResourceDefinition."""

    def __init__(self, served: Served, compile: Compile, converter: Callable[[], Converter]) -> None:
        self.served = served
        self._compile, self._make_converter = compile, converter
        self._compiled: CustomDefinition | None = None
        self._converter: Converter | None = None
        self._codec: Codec | None = None

    def inherit(self, other: Definition) -> None:
        """Take over what was compiled: only the state of the definition has changed."""
        self._compiled, self._converter, self._codec = other._compiled, other._converter, other._codec

    @property
    def stored(self) -> Stored:
        """How its objects are stored."""
        served = self.served
        kind = str(served.names.get("kind", ""))
        return Stored(served.group, served.plural, kind, self.api_version(served.storage_version), served.namespaced)

    @property
    def api_versions(self) -> list[str]:
        """What rows may be stored in, the current one first."""
        first = self.served.storage_version
        return [self.api_version(name) for name in sorted(self.served.versions, key=lambda name: name != first)]

    def api_version(self, version: str) -> str:
        return f"{self.served.group}/{version}"

    def version(self, name: str) -> CustomVersion | None:
        """The compiled version; None if there is no such version (any more)."""
        return self._compiled_definition().versions.get(name)

    def _compiled_definition(self) -> CustomDefinition:
        if self._compiled is None:
            self._compiled = self._compile(self.served.name)
        return self._compiled

    def require(self, name: str) -> CustomVersion:
        """A version that is served."""
        found = self.version(name)
        assert found is not None, f"{self.served.name} has no version {name}"
        return found

    @property
    def codec(self) -> Codec:
        """Decodes objects of all versions."""
        if self._codec is None:
            self._codec = Codec(self._compiled_definition().definitions)
        return self._codec

    def reread(self, api_version: str, item: bytes) -> bytes:
        """An item as the current schema of its version reads it (`entries.Reread`)."""
        version = self.version(api_version.rpartition("/")[2])
        if version is None:
            return item
        stored = orjson.loads(item)
        try:
            obj = self.codec.normalize(stored, version.type)
        except DecodeError:
            log.exception("%s %s cannot be read by its schema", self.served.name, stored["metadata"].get("name"))
            return item
        version.read(obj)
        obj["metadata"] = stored["metadata"]
        if obj == stored:
            return item
        return bytes_codec.foreign_item(obj, int(stored["metadata"].get("resourceVersion") or 0))

    def same_shape(self, one: str, other: str) -> bool:
        """Whether objects of two versions differ in nothing but apiVersion."""
        if self.served.webhook is not None:
            return one == other
        shapes = self.served.shapes
        return one == other or (one in shapes and shapes[one] == shapes.get(other))

    def fitted(self, obj: Object, version: str) -> dict[str, Any]:
        """A converted object, pruned by the schema of its new version."""
        found = self.version(version)
        return dict(obj) if found is None else self.codec.normalize(obj, found.type)

    async def convert(self, objects: list[Object], version: str) -> list[dict[str, Any]]:
        """Objects in another version. Raises ApiError."""
        desired = self.api_version(version)
        if self.served.webhook is None:
            return [self.fitted(renamed(obj, desired), version) for obj in objects]
        if self._converter is None:
            self._converter = self._make_converter()
        converted = await self._converter.convert(objects, desired)
        return [self.fitted(obj, version) for obj in converted]


class CustomResource(Resource):
    """See the module's docstring. What needs the schema is compiled on first use."""

    __slots__ = ("_definition", "_expected", "_full", "_light")
    _definition: Definition
    _light: ResourceInfo
    _full: ResourceInfo | None
    _expected: Expected | None

    def __init__(self, light: ResourceInfo, definition: Definition, cache: CustomCache) -> None:
        form = CustomForm(cache, light.kind, light.list_kind, light.api_version, _Views(definition, light.version))
        values = {
            "group": light.group, "version": light.version, "plural": light.plural, "namespaced": light.namespaced,
            "kind_name": light.kind, "cache": cache, "form": form,
            "_definition": definition, "_light": replace(light, verbs=VERBS), "_full": None, "_expected": None,
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def _version(self) -> CustomVersion:
        return self._definition.require(self.version)

    @property
    def info(self) -> ResourceInfo:
        """With the schema's part."""
        if self._full is None:
            version = self._version
            own = version.info
            full = replace(self._light, behaviour=version.kind, definitions=own.definitions, type_name=own.type_name)
            object.__setattr__(self, "_full", full)
            return full
        return self._full

    @property
    def kind(self) -> Kind:
        """Defaults, validation and columns of this version."""
        return self._version.kind

    @property
    def expected(self) -> Expected:
        """What a body must be."""
        if self._expected is None:
            found = Expected(self.group, self.version, self.kind_name, self._version.type)
            object.__setattr__(self, "_expected", found)
            return found
        return self._expected

    @property
    def custom(self) -> bool:
        return True

    @property
    def terminating(self) -> bool:
        """Whether its definition is being deleted, so that nothing may be created."""
        return self._definition.served.terminating

    @property
    def converts(self) -> bool:
        return len(self._definition.served.versions) > 1

    @property
    def codec(self) -> Codec:
        return self._definition.codec

    def current(self, entry: Entry) -> Object:
        return self.form.obj(entry)

    def matched(self, entry: Entry) -> Object:
        # What came while the webhook was asked about the others is not converted yet: it counts as it is stored.
        assert isinstance(entry, CustomEntry), "custom caches hold nothing else"
        unconverted = self._definition.served.webhook is not None and entry.view(self.form.api_version) is None
        return self.cache.obj(entry) if unconverted else self.form.obj(entry)

    async def ready(self, entries: Iterable[Entry]) -> None:
        if self._definition.served.webhook is None:
            return
        desired = self.form.api_version
        waiting = {
            id(entry): entry
            for entry in entries
            if isinstance(entry, CustomEntry) and entry.api_version != desired and entry.view(desired) is None
        }
        # Objects of one review are of one version, as those of a list are upstream.
        versions = dict.fromkeys(entry.api_version for entry in waiting.values())
        for version in versions:
            batch = [entry for entry in waiting.values() if entry.api_version == version]
            converted = await self._definition.convert([self.cache.obj(entry) for entry in batch], self.version)
            for entry, obj in zip(batch, converted, strict=True):
                entry.keep(desired, obj)

    async def to_store(self, obj: dict[str, Any]) -> dict[str, Any]:
        definition = self._definition
        target = definition.served.storage_version
        if target == self.version:
            return obj
        [stored] = await definition.convert([obj], target)
        definition.require(target).read(stored)
        return stored

    async def adapt(self, obj: Object) -> Object:
        if obj["apiVersion"] == self.form.api_version:
            return obj
        [adapted] = await self._definition.convert([obj], self.version)
        return adapted

    def transient(self, key: str, obj: Object, revision: int, managed: bytes) -> Entry:
        api_version = obj["apiVersion"]
        value = bytes_codec.encode(obj, self.kind_name, api_version, managed)
        item = bytes_codec.item(value, bytes_codec.head(self.kind_name, api_version), revision)
        cache: ResourceCache = self.cache
        assert isinstance(cache, CustomCache), "custom resources have caches of their own"
        return cache.versioned(key, item, revision, revision, api_version)


class _Views:
    """What `CustomForm` asks of a definition, for one version."""

    def __init__(self, definition: Definition, version: str) -> None:
        self._definition, self._version = definition, version
        self._api_version = definition.api_version(version)

    def plain(self, api_version: str) -> bool:
        return self._definition.same_shape(api_version.rpartition("/")[2], self._version)

    def converted(self, entry: CustomEntry, obj: Object) -> Object:
        if self._definition.served.webhook is None:
            return self._definition.fitted(renamed(obj, self._api_version), self._version)
        found = entry.view(self._api_version)
        if found is None:
            raise failed(f"{entry.key} has not been converted to {self._api_version}")
        return found
