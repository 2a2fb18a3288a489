"""The API server's flags that say where objects are kept and how: upstream's names, and --store."""

from __future__ import annotations

import argparse
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from tiphys.apiserver.configfile import watched
from tiphys.apiserver.encryption import EncryptedStore, load
from tiphys.base.errors import Permanent
from tiphys.store.types import Store
from tiphys.store.urls import EtcdFlags, check, is_etcd, open_store


def add_flags(add: Callable[..., Any]) -> None:
    add(
        "--store",
        default="",
        metavar="URL",
        help="sqlite (default, in --data-dir), sqlite:FILE, memory or https://HOST:2379[,https://...] for etcd",
    )
    add("--etcd-servers", default="", metavar="URLS", help="etcd servers, separated by commas: the same as --store")
    add("--etcd-cafile", default="", metavar="FILE", help="PEM file of the CA that signs etcd's certificates")
    add("--etcd-certfile", default="", metavar="FILE", help="PEM file of the certificate shown to etcd")
    add("--etcd-keyfile", default="", metavar="FILE", help="PEM file of its key")
    add("--etcd-prefix", default="", metavar="PREFIX", help="what all keys in etcd start with; /registry by default")
    add(
        "--etcd-compaction-interval",
        type=seconds,
        default=300.0,
        metavar="DURATION",
        help="how far lists and watches reach back at least, e.g. 5m; 0: for good",
    )
    add(
        "--history",
        type=seconds,
        default=3600.0,
        metavar="DURATION",
        help="how long sqlite and memory keep what was replaced and who did it, e.g. 1h",
    )
    add("--encryption-provider-config", type=Path, metavar="FILE", help="EncryptionConfiguration: encryption at rest")
    add(
        "--encryption-provider-config-automatic-reload",
        nargs="?",
        const="true",
        default="false",
        choices=("true", "false"),
        help="whether a change of that file is taken over at once",
    )


def seconds(text: str) -> float:
    """A duration as Go writes it (5m0s, 1.5h, 300ms), in seconds."""
    if text == "0":
        return 0.0
    found = re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ms|h|m|s))+", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 5m or 1h30m")
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text))


def store_url(options: argparse.Namespace) -> str:
    """The one URL that --store and --etcd-servers mean. Raises Permanent when they disagree or do not fit."""
    url: str = options.store or options.etcd_servers
    if options.store and options.etcd_servers and options.store != options.etcd_servers:
        raise Permanent(f"--etcd-servers {options.etcd_servers}: --store already says {options.store}; leave one out")
    if options.etcd_servers and not is_etcd(options.etcd_servers):
        raise Permanent(f"--etcd-servers {options.etcd_servers}: not a URL such as https://10.0.0.1:2379")
    for name in ("cafile", "certfile", "keyfile", "prefix"):
        if getattr(options, f"etcd_{name}") and not is_etcd(url):
            raise Permanent(f"--etcd-{name}: objects are kept in {url or 'sqlite'}; name etcd's servers by --store")
    check(url)
    return url


@asynccontextmanager
async def opened(options: argparse.Namespace) -> AsyncIterator[Store]:
    """The store that the flags name, closed at the end. Raises Permanent, Unavailable."""
    flags = EtcdFlags(options.etcd_cafile, options.etcd_certfile, options.etcd_keyfile, options.etcd_prefix)
    data: Path = options.data_dir
    config: Path | None = options.encryption_provider_config
    rules = load(config) if config is not None else None
    store = open_store(store_url(options), data / "state.db", flags)
    try:
        if config is None or rules is None:
            yield store
        else:
            encrypted = EncryptedStore(store, rules)
            async with _reloaded(config, encrypted, options.encryption_provider_config_automatic_reload == "true"):
                yield encrypted
    finally:
        await store.close()


def _reloaded(config: Path, store: EncryptedStore, automatic: bool) -> AbstractAsyncContextManager[None]:
    """Takes over changes of the file while it lasts."""

    async def reload() -> None:
        await store.change(load(config))

    return watched(config, reload) if automatic else nullcontext()
