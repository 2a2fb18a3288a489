"""Containers: prepared on disk, started through the helper, watched through their shims, removed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol

from tiphys.base.clock import Clock
from tiphys.base.files import remove_tree
from tiphys.runtime import bundle, cgroups, oci_shim, processes, protocol, recovery, spec
from tiphys.runtime.channel import Channel, Frame
from tiphys.runtime.handlers import OciHandler, pick
from tiphys.runtime.images.lookup import has_path
from tiphys.runtime.launcher import Launcher
from tiphys.runtime.records import ContainerRecord
from tiphys.runtime.sandboxes import ID
from tiphys.runtime.shim import SOCKET, write_state
from tiphys.runtime.types import ContainerSpec, Image, InvalidSpec, NoSuchImage, Resources, RuntimeFailure, State


class Layers(Protocol):
    """What containers need of the image store: tiphys.runtime.images.LocalImages has it."""

    async def get(self, reference: str) -> Image | None: ...

    def layers(self, image_id: str) -> tuple[Path, ...]:
        """The image's unpacked layers, topmost first."""
        ...


class Containers:
    """The containers of one runtime directory. `on_change` is told every change of state."""

    def __init__(
        self,
        directory: Path,
        launcher: Launcher,
        images: Layers,
        layout: cgroups.Layout,
        clock: Clock,
        on_change: Callable[[ContainerRecord, State], None],
        handlers: Mapping[str, OciHandler],
    ) -> None:
        self._handlers = handlers
        self._directory, self._launcher, self._images = directory, launcher, images
        self._layout, self._clock, self._on_change = layout, clock, on_change
        self.records: dict[str, ContainerRecord] = {}

    def recover(self) -> None:
        """Read all that is on disk and connect to the shims that live; the others' ends are told as changes."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for directory in sorted(self._directory.iterdir()):
            record = recovery.container(directory)
            if record is None:
                recovery.discard(directory)
                continue
            self.records[record.spec.id] = record
            self._recall(record)

    def _recall(self, record: ContainerRecord) -> None:
        record.state = recovery.state(record.directory) or record.state
        if record.running:
            try:
                self._follow(record, Channel(protocol.connect(str(record.directory), SOCKET)))
            except OSError:
                # It ended between the two looks, or it was killed.
                self._lost(record)
        elif record.state["state"] == "exited":
            record.ended.set()
            self._on_change(record, State.EXITED)
        elif (record.directory / "bundle.json").exists():
            self._ask(record)

    def _ask(self, record: ContainerRecord) -> None:
        """A start was asked for whose outcome nobody has seen: its shim, if there is one, tells it."""
        found = recovery.first_word(record.directory)
        if found is not None:
            connection, record.state = found
            self._on_change(record, State(record.state["state"]))
            self._follow(record, Channel(connection))
        elif state := recovery.state(record.directory):
            record.state = state
            self._lost(record)

    async def create(self, wanted: ContainerSpec) -> ContainerRecord:
        """Write it down and make its directories. Raises NoSuchImage, InvalidSpec."""
        if not ID.fullmatch(wanted.id):
            raise InvalidSpec(f"container id {wanted.id!r} must match {ID.pattern}")
        if wanted.id in self.records:
            raise InvalidSpec(f"container {wanted.id} exists already")
        if not wanted.argv:
            raise InvalidSpec(f"container {wanted.id}: no command specified")
        image = await self._images.get(wanted.image)
        if image is None:
            raise NoSuchImage(f"image {wanted.image} is not here")
        for mount in wanted.mounts:
            if mount.image and not has_path(self._images.layers(mount.image), mount.source):
                text = f"no such file or directory: {mount.source!r} in image {mount.image}"
                raise RuntimeFailure(f"ImageVolumeMountFailed: failed to mount image volume at {mount.target}: {text}")
        bundle.check(wanted, self._directory.parent)
        directory = self._directory / wanted.id
        for name in ("rootfs", "upper", "work"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        prepared = {
            "created_at": self._clock.time(),
            "image": image.id,
            "user": wanted.user or image.config.user,
            "stop_signal": wanted.stop_signal or image.config.stop_signal or "SIGTERM",
        }
        spec.save(directory / "prepared.json", prepared)
        spec.save(directory / "spec.json", spec.plain(wanted))
        record = ContainerRecord(wanted, directory, prepared)
        self.records[wanted.id] = record
        self._on_change(record, State.CREATED)
        return record

    async def start(self, record: ContainerRecord, sandbox: dict[str, Any]) -> None:
        """Run it in `sandbox` (see Sandboxes.namespaces). Raises RuntimeFailure with the reason it did not run."""
        async with record.lock:
            if record.running:
                return
            layers = self._images.layers(record.prepared["image"])
            content = bundle.container(
                record.spec, record.directory, record.prepared["user"], layers, sandbox, self._layout
            )
            bundle.add_images(content, self._images.layers)
            self._delegate(record, content, sandbox["handler"])
            spec.save(record.directory / "bundle.json", content)
            channel = Channel(await self._launcher.connect())
            try:
                state = await channel.ask({"op": "start", "directory": str(record.directory)})
            except BaseException:
                channel.close()
                raise
            record.state = state
            if state["state"] != "running":
                channel.close()
                self._end(record)
                reason = f"OCI runtime create failed: unable to start container process: {state['error']}: unknown"
                record.state["error"] = reason
                raise RuntimeFailure(reason)
            record.ended.clear()
            self._on_change(record, State.RUNNING)
            self._follow(record, channel)

    def _delegate(self, record: ContainerRecord, content: dict[str, Any], name: str) -> None:
        """Tell the shim which OCI runtime is to start it, and that one what to start. Raises InvalidSpec."""
        handler = pick(self._handlers, name)
        if handler is not None:
            from tiphys.runtime import oci

            root = str(self._directory.parent / "oci" / name)
            program = {"path": handler.path, "options": list(handler.options), "apart": handler.apart}
            content["oci"] = {**program, "root": root}
            spec.save(record.directory / "config.json", oci.config(content, record.spec.security))

    def _follow(self, record: ContainerRecord, channel: Channel) -> None:
        record.channel = channel
        channel.listen(lambda frame: self._told(record, channel, frame))

    def _told(self, record: ContainerRecord, channel: Channel, frame: Frame | None) -> None:
        if record.channel is not channel:
            return
        if frame is not None:
            before, record.state = record.state["state"], json.loads(frame[1])
            if record.running and before == "created":
                self._on_change(record, State.RUNNING)
        if frame is None or record.state["state"] == "exited":
            channel.close()
            record.channel = None
            if record.state["state"] == "exited":
                self._end(record)
            else:
                self._lost(record)

    def _end(self, record: ContainerRecord) -> None:
        record.ended.set()
        self._on_change(record, State.EXITED)

    def _lost(self, record: ContainerRecord) -> None:
        """The shim has gone without a word: perhaps it wrote the end down, else put an end to the container."""
        state = recovery.state(record.directory) or record.state
        if state["state"] != "exited":
            rebooted = state.get("boot") != processes.boot_id()
            cgroups.remove(recovery.cgroup_of(record.directory))
            # As containerd tells of them: how a process ended with its machine is not known.
            code, number = (255, 0) if rebooted else (137, int(signal.SIGKILL))
            cause = "the machine was restarted" if rebooted else "the container's shim was killed"
            state |= {"state": "exited", "exit_code": code, "signal": number, "pid": 0, "error": cause}
            state["finished_at"] = self._clock.time()
            write_state(str(record.directory), state)
        record.state = state
        self._end(record)

    async def stop(self, record: ContainerRecord, grace: float) -> None:
        """The stop signal, then SIGKILL; returns when it has ended."""
        if not record.running:
            return
        number = signal_number(record.prepared["stop_signal"])
        if grace > 0:
            with contextlib.suppress(RuntimeFailure):  # it ended meanwhile
                await self.signal(record, number)
            if await self._ends_within(record, grace):
                return
        await self.kill(record)

    async def kill(self, record: ContainerRecord) -> None:
        """SIGKILL, and wait for the end."""
        if record.running:
            with contextlib.suppress(RuntimeFailure):  # it ended meanwhile
                await self.signal(record, signal.SIGKILL)
            await record.ended.wait()

    async def signal(self, record: ContainerRecord, number: int) -> None:
        """To the container's first process. Raises RuntimeFailure when it does not run."""
        if record.channel is None:
            raise RuntimeFailure(f"container {record.spec.id} is not running")
        await record.channel.send(protocol.message({"op": "signal", "signal": number}))

    async def _ends_within(self, record: ContainerRecord, seconds: float) -> bool:
        async with asyncio.TaskGroup() as group:
            waits = {group.create_task(record.ended.wait()), group.create_task(self._clock.sleep(seconds))}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in waits:
                task.cancel()
        return record.ended.is_set()

    async def remove(self, record: ContainerRecord) -> None:
        """Kill it and delete its files."""
        await self.kill(record)
        async with record.lock:
            if self.records.pop(record.spec.id, None) is None:
                return
            if record.channel is not None:
                record.channel.close()
                record.channel = None
            try:
                await asyncio.to_thread(_forget, record.directory)
                await asyncio.to_thread(remove_tree, record.directory)
            except OSError as error:
                raise RuntimeFailure(f"container {record.spec.id} left {record.directory}: {error.strerror}") from error

    def amend(self, record: ContainerRecord, resources: Resources, labels: Mapping[str, str]) -> None:
        """Keep limits that were changed, and more labels."""
        limits = merged(record.spec.resources, resources)
        record.spec = replace(record.spec, resources=limits, labels={**record.spec.labels, **labels})
        spec.save(record.directory / "spec.json", spec.plain(record.spec))

    def close(self) -> None:
        """Let go of the shims; the containers go on."""
        for record in self.records.values():
            channel, record.channel = record.channel, None
            if channel is not None:
                channel.close()


def _forget(directory: Path) -> None:
    """Have the OCI runtime forget a container whose shim was killed before it could."""
    content = spec.load(directory / "bundle.json") or {}
    if content.get("oci") and (Path(content["oci"]["root"]) / content["id"]).exists():
        oci_shim.delete(str(directory), content)


def merged(old: Resources, new: Resources) -> Resources:
    """`old` with what `new` says; what is 0 or "" there stays."""
    said = {field.name: value for field in fields(new) if (value := getattr(new, field.name)) not in (0, "", (), None)}
    return replace(old, **said)


def images_in_use(root: Path) -> set[str]:
    """The IDs of the images that containers of the runtime at `root` were made from, whatever process made them."""
    found = (spec.load(path) for path in root.glob("containers/*/prepared.json"))
    return {content["image"] for content in found if content is not None}


def signal_number(name: str) -> int:
    """The number of SIGTERM, TERM, 15, SIGRTMIN+3 ... Raises InvalidSpec."""
    text = name.upper().removeprefix("SIG")
    if text.isdigit() and 0 < int(text) < signal.NSIG:
        return int(text)
    base, plus, offset = text.partition("+")
    try:
        return int(signal.Signals[f"SIG{base}"]) + (int(offset) if plus else 0)
    except (KeyError, ValueError) as error:
        raise InvalidSpec(f"unknown signal {name!r}") from error
