"""Where and how a registry is reached, as containerd's certs.d directories tell it.

    DIRECTORY/HOST/hosts.toml        server, mirrors with their capabilities, certificates, headers
    DIRECTORY/HOST/*.crt, *.cert, *.key    without a hosts.toml: authorities and a client certificate, as docker's
    DIRECTORY/_default/              for registries that have no directory of their own

HOST is a registry such as quay.io or localhost:5000 (also written localhost_5000_). Source: containerd's docs/hosts.md.
"""

from __future__ import annotations

import ssl
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys.base.errors import Permanent


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to ask for a registry's images."""

    url: str
    root: str = "/v2"
    """Path of the API there."""
    resolve: bool = True
    """Whether it may say what a tag is; else it is asked for digests only."""
    authorities: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path | None], ...] = ()
    """Certificate and key (None: in the same file)."""
    verify: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    """The registry that it stands in for."""
    near: str = ""
    """The network namespace (a path) that it is in; "" for this process's own."""

    def context(self) -> ssl.SSLContext | None:
        """For TLS; None where the defaults will do. Raises Permanent for certificates that cannot be read."""
        if not (self.authorities or self.client or not self.verify):
            return None
        made = ssl.create_default_context()
        try:
            for authority in self.authorities:
                made.load_verify_locations(authority)
            for certificate, key in self.client:
                made.load_cert_chain(certificate, key)
        except OSError as error:
            raise Permanent(f"{self.url}: certificates cannot be read: {error}") from error
        if not self.verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


def endpoints(registry: str, own: Sequence[Endpoint], directories: Sequence[Path]) -> list[Endpoint]:
    """Where to ask, in order: what is configured for the registry, then (unless that says otherwise) `own`.

    Raises Permanent for a file that makes no sense."""
    directory = _directory(registry, directories)
    if directory is None:
        return list(own)
    if not (directory / "hosts.toml").is_file():
        return [_with_certificates(endpoint, directory) for endpoint in own]
    file = directory / "hosts.toml"
    try:
        document = tomllib.loads(file.read_text())
        found = [_endpoint(url, entry, directory, registry) for url, entry in (document.get("host") or {}).items()]
        if "server" in document:
            found.append(_endpoint(str(document["server"]), document, directory, ""))
        else:
            found += own
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Permanent(f"{file}: {error}") from error
    return found


def _directory(registry: str, directories: Sequence[Path]) -> Path | None:
    host, colon, port = registry.rpartition(":")
    names = [registry, *([f"{host}_{port}_"] if colon else []), "_default"]
    for base in directories:
        for name in names:
            if (base / name).is_dir():
                return base / name
    return None


def _endpoint(url: str, entry: Mapping[str, Any], directory: Path, registry: str) -> Endpoint:
    if "://" not in url:
        url = f"https://{url}"
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    path = f"/{path}".rstrip("/") if slash else ""
    capabilities = entry.get("capabilities") or ["pull", "resolve", "push"]
    return Endpoint(
        url=f"{scheme}://{host}",
        root=path if entry.get("override_path") else f"{path}/v2" if not path.endswith("/v2") else path,
        resolve="resolve" in capabilities,
        authorities=tuple(directory / name for name in _list(entry.get("ca"))),
        client=tuple(_pairs(entry.get("client"), directory)),
        verify=not entry.get("skip_verify"),
        headers={name: ", ".join(_list(value)) for name, value in (entry.get("header") or {}).items()},
        namespace=registry,
    )


def _list(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(map(str, value))


def _pairs(value: Any, directory: Path) -> list[tuple[Path, Path | None]]:
    entries = [value] if isinstance(value, str) else list(value or ())
    made: list[tuple[Path, Path | None]] = []
    for entry in entries:
        certificate, *key = [entry] if isinstance(entry, str) else entry
        made.append((directory / certificate, directory / key[0] if key and key[0] else None))
    return made


def _with_certificates(endpoint: Endpoint, directory: Path) -> Endpoint:
    """As docker has them: every *.crt is an authority, NAME.cert with NAME.key identify the client."""
    pairs: list[tuple[Path, Path | None]] = [
        (file, file.with_suffix(".key"))
        for file in sorted(directory.glob("*.cert"))
        if file.with_suffix(".key").exists()
    ]
    return Endpoint(endpoint.url, authorities=tuple(sorted(directory.glob("*.crt"))), client=tuple(pairs))
