"""Which store a URL names, and opening it.

""  sqlite               SQLite in the file that the caller chooses
sqlite:/a/file           SQLite there
memory  memory:          gone with the process: for tests and simulations
https://HOST:2379,...    etcd v3, one or more of its servers (http:// without TLS)

etcd's files and prefix may follow the last server: https://HOST:2379?ca=FILE&cert=FILE&key=FILE&prefix=/registry
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from tiphys.base.errors import Permanent
from tiphys.store.types import Store

ALLOWED = "allowed are sqlite, sqlite:FILE, memory and https://HOST:2379[,https://...]"
QUERY = ("ca", "cert", "key", "prefix")


@dataclass(frozen=True, slots=True)
class EtcdFlags:
    """What upstream's --etcd-* flags say; "" leaves it to the URL or the default."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    prefix: str = ""


def check(url: str) -> None:
    """Raises Permanent for a URL that names no store."""
    if is_etcd(url):
        _etcd(url, EtcdFlags())
        return
    scheme, _, rest = url.partition(":")
    if scheme not in ("", "sqlite", "memory") or (scheme == "memory" and rest):
        raise Permanent(f"--store {url}: not a store; {ALLOWED}")
    if scheme == "sqlite" and rest and not rest.startswith("/"):
        raise Permanent(f"--store {url}: {rest!r} must be an absolute path, such as sqlite:/var/lib/state.db")


def is_etcd(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def open_store(url: str, default: Path, flags: EtcdFlags | None = None) -> Store:
    """The store of `url`; `default` is SQLite's file unless the URL names one. Raises Permanent, Unavailable."""
    check(url)
    scheme, _, rest = url.partition(":")
    if is_etcd(url):
        return _etcd(url, flags or EtcdFlags())
    if scheme == "memory":
        from tiphys.store.memory import MemoryStore

        return MemoryStore()
    from tiphys.store.sqlite import SqliteStore

    file = Path(rest) if rest else default
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteStore.open(file)


def files(url: str) -> tuple[Path, ...]:
    """The files of the store of `url` that are not where the caller chooses."""
    scheme, _, rest = url.partition(":")
    return tuple(Path(rest + suffix) for suffix in ("", "-wal", "-shm")) if scheme == "sqlite" and rest else ()


def _etcd(url: str, flags: EtcdFlags) -> Store:
    from tiphys.store.etcd import EtcdStore
    from tiphys.store.etcd_connection import DEFAULT_PREFIX, EtcdConfig

    plain, _, query = url.partition("?")
    servers = tuple(part.strip() for part in plain.split(",") if part.strip())
    told = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := [name for name in told if name not in QUERY]:
        raise Permanent(f"--store {url}: {', '.join(unknown)} is not known; allowed are {', '.join(QUERY)}")

    def path(flag: str, name: str) -> Path | None:
        text = flag or told.get(name, "")
        return Path(text) if text else None

    config = EtcdConfig(
        servers,
        ca=path(flags.ca, "ca"),
        certificate=path(flags.certificate, "cert"),
        key=path(flags.key, "key"),
        prefix=flags.prefix or told.get("prefix", "") or DEFAULT_PREFIX,
    )
    return EtcdStore(config)
