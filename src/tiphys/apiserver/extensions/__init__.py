"""Custom resources served live: what comes, changes and goes with CustomResourceDefinitions.

    describing   what a definition says without its schemas; all that is kept of definitions that nobody uses
    registry     follows the definitions: routing, caches, discovery, OpenAPI (`Registry`, used by `app`)
    resource     one served version (`CustomResource`) and what its versions share (`Definition`)
    entries, forms   the watch cache of custom objects, and how they are shown in each version
    conversion, review   from one version to another: by name only, or by asking a webhook
    status, controller   names and conditions: decided purely, written by one task
    instances, writing   deletes the objects of a definition that goes; how the server writes to definitions

What a schema means (pruning, defaults, validation, columns, OpenAPI) is in `tiphys.api.custom`, compiled when a request
for the resource comes. Nothing polls: the watch cache of the definitions tells of each change before any client does.
"""

from __future__ import annotations

from tiphys.apiserver.extensions.controller import Controller
from tiphys.apiserver.extensions.describing import GROUP, PLURAL
from tiphys.apiserver.extensions.instances import Cleaner
from tiphys.apiserver.extensions.registry import Registry
from tiphys.apiserver.extensions.writing import Writer
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.serving import Serving


class CustomResources:
    """The whole: `start` when everything is read and before anybody asks, `run` for as long as the server lives."""

    def __init__(self, parts: Parts, serving: Serving) -> None:
        crds = parts.caches.of(GROUP, PLURAL)
        self.registry = Registry(parts.caches, serving, parts.webhooks)
        writer = Writer(parts, serving.resources[GROUP, "v1", PLURAL])
        cleaner = Cleaner(self.registry, crds, parts.storage, writer, parts.timers)
        self._controller = Controller(crds, writer, cleaner)

    def start(self) -> None:
        """Serve what is defined already, and follow what changes."""
        self.registry.observers.append(self._controller.observe)
        self.registry.start()

    async def run(self) -> None:
        """Keep the definitions' status until cancelled."""
        await self._controller.run()
