"""Follows the CustomResourceDefinitions: their resources appear in routing, caches, discovery and OpenAPI, and vanish.

The registry is told of each change by the watch cache of the definitions before any client can learn of it, so whoever
sees a definition Established can use it. On a start, and when everything had to be read again, `sync` compares all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tiphys.apiserver import serving
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.entries import Change
from tiphys.apiserver.extensions.conversion import Converter, WebhookConverter
from tiphys.apiserver.extensions.describing import GROUP, PLURAL, Served, describe, is_served
from tiphys.apiserver.extensions.entries import CustomCache
from tiphys.apiserver.extensions.resource import CustomResource, Definition
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.resource import Key, Resource
from tiphys.apiserver.webhooks import WebhookClient

if TYPE_CHECKING:
    from tiphys.api.custom.definition import CustomDefinition

log = logging.getLogger(__name__)

Object = Mapping[str, Any]


class Installed:
    """A definition that is served, with its cache and its resources."""

    def __init__(self, definition: Definition, cache: CustomCache) -> None:
        self.definition, self.cache = definition, cache
        self.resources: dict[Key, Resource] = {
            (light.group, light.version, light.plural): CustomResource(light, definition, cache)
            for light in definition.served.resources
        }

    @property
    def served(self) -> Served:
        return self.definition.served


class Registry:
    """See the module's docstring."""

    def __init__(self, caches: Caches, serving: serving.Serving, webhooks: WebhookClient) -> None:
        self._caches, self._serving, self._webhooks = caches, serving, webhooks
        self._crds: ResourceCache = caches.of(GROUP, PLURAL)
        self._definitions = serving.builtin.resources[0].definitions
        self._builtin_resources = dict(serving.resources)
        self._builtin_storage = {(one.group, one.plural) for one in self._builtin_resources.values()}
        self._installed: dict[str, Installed] = {}
        self._known: set[str] = set()
        self.observers: list[Callable[[str, Object | None], None]] = []
        """Told of each definition that came or changed, and of its name alone when it went."""

    def start(self) -> None:
        """Serve what is defined, and follow changes from now on."""
        self._caches.loaders.append(self.sync)
        self._crds.listeners.append(self._changed)
        self._serving.definitions = self._published
        self.sync()

    def installed(self, name: str) -> Installed | None:
        """What is served of a definition."""
        return self._installed.get(name)

    def overlaps(self, group: str, plural: str) -> bool:
        """Whether a built-in resource keeps its objects where a definition's would be."""
        return (group, plural) in self._builtin_storage

    def sync(self) -> None:
        """Compare with all definitions that there are."""
        there = {entry.name: entry for entry in self._crds.range()}
        for name in self._known - there.keys():
            self._forget(name)
        for entry in there.values():
            self._take(self._crds.obj(entry))
        self._caches.settle()
        self._publish()

    def _changed(self, change: Change) -> None:
        try:
            if change.type == "DELETED":
                changed = self._forget(change.entry.name)
            else:
                changed = self._take(self._crds.obj(change.entry))
        except Exception:
            log.exception("the definition %s cannot be served", change.entry.name)
            return
        if changed:
            self._publish()

    def _take(self, crd: Object) -> bool:
        """Serve a definition as it is now; False if nothing changes."""
        name = crd["metadata"]["name"]
        self._known.add(name)
        for observer in self.observers:
            observer(name, crd)
        if not is_served(crd) or self.overlaps(crd["spec"]["group"], crd["spec"]["names"]["plural"]):
            return self._remove(name)
        served, before = describe(crd, self._definitions), self._installed.get(name)
        if before is not None and before.served.uid != served.uid:
            self._remove(name)
            before = None
        if before is not None and before.served == served:
            return False
        self._installed[name] = self._install(served, before)
        return True

    def _install(self, served: Served, before: Installed | None) -> Installed:
        definition = Definition(served, self._compile, lambda: self._converter(served))
        if before is None:
            cache = CustomCache(definition.stored, definition.reread, definition.api_versions)
            self._caches.add(cache)
            return Installed(definition, cache)
        if before.served.same_but_state(served):
            definition.inherit(before.definition)
        else:
            before.cache.redefine(definition.stored, definition.reread, definition.api_versions)
        return Installed(definition, before.cache)

    def _forget(self, name: str) -> bool:
        self._known.discard(name)
        for observer in self.observers:
            observer(name, None)
        return self._remove(name)

    def _remove(self, name: str) -> bool:
        found = self._installed.pop(name, None)
        if found is not None:
            self._caches.remove(found.cache)
        return found is not None

    def _publish(self) -> None:
        builtin = self._serving.builtin
        known = self._builtin_resources
        resources = dict(known)
        for one in self._installed.values():
            resources.update((key, found) for key, found in one.resources.items() if key not in known)
        infos = (
            info
            for one in self._installed.values()
            for info in one.served.discovered()
            if (info.group, info.version, info.plural) not in known
        )
        self._serving.replace(builtin.with_resources(infos), resources)

    def _published(self) -> list[serving.Definition]:
        """The definitions whose resources discovery shows."""
        found = []
        for name, one in sorted(self._installed.items()):
            entry, served = self._crds.get("", name), one.served
            if entry is not None and served.established:
                versions = tuple(info.version for info in served.resources)
                identity = (name, served.group, served.uid, served.generation, str(served.names), versions)
                found.append(serving.Definition(*identity, entry.item))
        return found

    def _compile(self, name: str) -> CustomDefinition:
        from tiphys.api.custom.definition import compile_definition

        entry = self._crds.get("", name)
        if entry is None:
            raise KeyError(name)
        return compile_definition(self._crds.obj(entry))

    def _converter(self, served: Served) -> Converter:
        assert served.webhook is not None, "only the strategy Webhook has a converter"
        return WebhookConverter(self._webhooks, served.webhook)
