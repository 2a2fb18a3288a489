"""The verbs on resources: from a Call to a Response. Two hops from the route to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from tiphys.apiserver import (
    creating,
    deleting,
    listoptions,
    negotiate,
    options,
    reading,
    respond,
    updating,
    watching,
)
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.patching import patch
from tiphys.apiserver.resource import Call
from tiphys.apiserver.selection import select
from tiphys.apiserver.tables import form_for
from tiphys.base.errors import ApiError, NotFound
from tiphys.base.http.types import Response, is_websocket
from tiphys.store.types import Store

DELETED_AT_ONCE = 16
"""Objects of a collection that are deleted at the same time."""


class Endpoints:
    """One method a verb."""

    def __init__(self, parts: Parts, store: Store) -> None:
        self._parts, self._store = parts, store

    async def get(self, call: Call) -> Response:
        version = call.request.param("resourceVersion") if call.request.query_string else ""
        return await self._shown(call, await reading.get(self._parts, call, call.info.name, version))

    async def list(self, call: Call) -> Response:
        wanted = listoptions.parse(call.request, watch=False)
        selection = select(call, wanted.labels, wanted.fields)
        listed = await reading.list_(self._parts, self._store, call, wanted, selection)
        if call.resource.converts:
            await call.resource.ready(listed.entries)
        return respond.listed(call, listed.entries, listed.metadata)

    async def watch(self, call: Call) -> Response:
        wanted = listoptions.parse(call.request, watch=True)
        form, media = call.resource.form, negotiate.PLAIN
        if is_websocket(call.request):
            form = form_for(call, negotiate.accepted(call.request))
        elif not call.request.local:
            media = negotiate.accepted(call.request, form.api_version, form.kind)
            form = form_for(call, media)
        start = await reading.watch(self._parts, call, wanted, select(call, wanted.labels, wanted.fields))
        items = self._parts.watches.items(
            call.resource.cache, start, bookmarks=wanted.bookmarks, timeout=float(wanted.timeout)
        )
        if call.resource.converts:
            await call.resource.ready(start.initial)
            if start.match is not None:
                start.initial = [entry for entry in start.initial if start.match(entry)]
            items = watching.converted(call.resource, start, items)
        if call.request.local:
            return Response(200, events=watching.objects(form, start, items))
        lines = watching.lines(form, start, items)
        if is_websocket(call.request):
            from tiphys.apiserver import watchsocket  # what speaks WebSocket is imported by the first who asks for it

            return watchsocket.serve(call.request, lines)
        return Response(200, {"Content-Type": negotiate.stream_type(media)}, stream=lines)

    async def create(self, call: Call) -> Response:
        options.read_write_options(call)
        return await self._shown(call, await creating.create(self._parts, call), 201)

    async def update(self, call: Call) -> Response:
        options.read_write_options(call)
        entry, created = await updating.put(self._parts, call, call.info.name)
        return await self._shown(call, entry, 201 if created else 200)

    async def patch(self, call: Call) -> Response:
        options.read_write_options(call)
        entry, created = await patch(self._parts, call, call.info.name)
        return await self._shown(call, entry, 201 if created else 200)

    async def delete(self, call: Call) -> Response:
        wanted = options.delete_options(call, self._parts.codec)
        entry, gone = await deleting.delete(self._parts, call, call.info.name, wanted)
        status = deleting.answer(call.resource, entry, gone=gone)
        if status is not None:
            return respond.plain(call.request, status)
        return await self._shown(call, entry, 202 if not gone and wanted.get("orphanDependents") is False else 200)

    async def deletecollection(self, call: Call) -> Response:
        wanted = listoptions.parse(call.request, watch=False)
        how = options.delete_options(call, self._parts.codec)
        selection = select(call, wanted.labels, wanted.fields)
        listed = await reading.list_(self._parts, self._store, call, wanted, selection)
        await self._delete_all(call, listed.entries, how)
        if call.resource.converts:
            await call.resource.ready(listed.entries)
        return respond.listed(call, listed.entries, listed.metadata)

    @staticmethod
    async def _shown(call: Call, entry: Entry, status: int = 200) -> Response:
        if call.resource.converts:
            await call.resource.ready((entry,))
        return respond.entry(call, entry, status)

    async def _delete_all(self, call: Call, entries: Sequence[Entry], how: dict[str, object]) -> None:
        limit = asyncio.Semaphore(DELETED_AT_ONCE)

        async def one(entry: Entry) -> None:
            # Each in its own namespace: a collection may span all of them.
            info = replace(call.info, namespace=entry.namespace, name=entry.name)
            own = Call(call.request, info, call.resource, call.user, call.now, call.dry_run, options=call.options)
            async with limit:
                try:
                    await deleting.delete(self._parts, own, entry.name, how)
                except NotFound:
                    return  # somebody else was faster

        try:
            async with asyncio.TaskGroup() as group:
                for entry in entries:
                    group.create_task(one(entry))
        except* ApiError as problems:  # the first refusal is the answer
            raise problems.exceptions[0] from None
