"""Writes what `status` decides, and deletes the objects of definitions that are being deleted.

`Controller` is told of each change of a definition by the registry; it looks at one definition at a time, as
upstream's naming controller, for two that claim one name must not both get it. Deleting objects may take long, since
their finalizers are honoured, and has a task for each definition.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.meta import find_condition, is_true
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.extensions import status
from tiphys.apiserver.extensions.describing import ESTABLISHED
from tiphys.apiserver.extensions.instances import Cleaner
from tiphys.apiserver.extensions.writing import Writer
from tiphys.base.errors import Conflict, NotFound

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
AGAIN_SECONDS = 1.0
"""How long after a failure a definition is looked at again."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a definition has of the names of its group."""

    group: str
    names: Object
    content: bool
    """Whether it has all that it wants, so that names that become free do not concern it."""


class Controller:
    """See the module's docstring."""

    def __init__(self, crds: ResourceCache, writer: Writer, cleaner: Cleaner) -> None:
        self._crds, self._writer, self._cleaner = crds, writer, cleaner
        self._waiting: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._claims: dict[str, Claim] = {}
        self._judged: dict[str, tuple[tuple[Any, ...], tuple[Mapping[str, str] | None, Mapping[str, str] | None]]] = {}
        self._cleaning: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    name = next(iter(self._waiting))
                    del self._waiting[name]
                    await self._look(name, group)

    def observe(self, name: str, crd: Object | None) -> None:
        """A definition came or changed, or (None) went; `run` does what is to be done."""
        before = self._claims.get(name)
        if crd is None:
            self._claims.pop(name, None)
            self._judged.pop(name, None)
            if before is not None:
                self._reconsider(before.group, name)
            return
        names = (crd.get("status") or {}).get("acceptedNames") or {}
        content = names == crd["spec"]["names"] and is_true(crd, ESTABLISHED)
        claim = self._claims[name] = Claim(crd["spec"].get("group", ""), dict(names), content)
        if before is not None and before.names != names:
            self._reconsider(claim.group, name)
        self._enqueue(name)

    def _reconsider(self, group: str, name: str) -> None:
        """A name may have become free: look at all others of the group that want one."""
        for other, claim in self._claims.items():
            if claim.group == group and other != name and not claim.content:
                self._enqueue(other)

    def _enqueue(self, name: str) -> None:
        self._waiting[name] = None
        self._wake.set()

    async def _look(self, name: str, group: asyncio.TaskGroup) -> None:
        entry = self._crds.get("", name)
        if entry is None:
            return
        crd = self._crds.obj(entry)
        try:
            if "deletionTimestamp" in crd["metadata"] and status.FINALIZER in (crd["metadata"].get("finalizers") or ()):
                if name not in self._cleaning:
                    self._cleaning.add(name)
                    group.create_task(self._clean(name))
                return
            await self._settle(crd)
        except (NotFound, Conflict):
            return  # its change brings us back
        except Exception as error:  # noqa: BLE001 - one definition must not end the work for all others
            log.warning("the status of the definition %s cannot be written: %s", name, error)
            self._writer.later(AGAIN_SECONDS, lambda: self._enqueue(name))

    async def _settle(self, crd: Object) -> None:
        taken = [claim.names for claim in self._claims.values() if claim.group == crd["spec"]["group"]]
        usable = True
        if not is_true(crd, ESTABLISHED):
            usable = _usable_bundle(crd)
        wanted = status.settled(crd, taken, self._conditions(crd), usable_bundle=usable, now=self._writer.now())
        if wanted != crd.get("status"):
            await self._writer.write(crd, wanted)

    def _conditions(self, crd: Object) -> tuple[Mapping[str, str] | None, Mapping[str, str] | None]:
        """The conditions that only the definition itself decides on; kept, for looking at schemas takes time."""
        if not _is_special(crd):
            return None, None
        from tiphys.api.custom.definition import conditions

        metadata = crd["metadata"]
        key = (metadata["uid"], metadata.get("generation"), metadata.get("annotations"))
        found = self._judged.get(metadata["name"])
        if found is None or found[0] != key:
            found = self._judged[metadata["name"]] = key, conditions(crd)
        return found[1]

    async def _clean(self, name: str) -> None:
        try:
            await self._cleaner.clean(name)
        except (NotFound, Conflict):
            self._enqueue(name)  # somebody changed it meanwhile
        except Exception as error:  # noqa: BLE001 - one definition must not end the work for all others
            log.warning("the objects of the definition %s cannot be deleted: %s", name, error)
            self._writer.later(AGAIN_SECONDS, lambda: self._enqueue(name))
        finally:
            self._cleaning.discard(name)


def _is_special(crd: Object) -> bool:
    """Whether it may have those conditions: validation lets only structural schemas in, unless all fields are kept."""
    old = bool(crd["spec"].get("preserveUnknownFields")) or find_condition(crd, status.SCHEMA) is not None
    return old or f".{crd['spec']['group']}".endswith((".k8s.io", ".kubernetes.io"))


def _usable_bundle(crd: Object) -> bool:
    """Whether the CA of a conversion webhook can be read; none is fine."""
    webhook = (crd["spec"].get("conversion") or {}).get("webhook") or {}
    bundle = (webhook.get("clientConfig") or {}).get("caBundle")
    try:
        text = base64.b64decode(bundle or "").strip()
        if text:
            ssl.create_default_context(cadata=text.decode())
    except (binascii.Error, ValueError, ssl.SSLError):
        return False
    return True
