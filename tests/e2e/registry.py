"""A registry with one image, from a docker-archive: enough of the distribution API to pull from."""

from __future__ import annotations

import base64
import hashlib
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def contents(archive: Path) -> tuple[bytes, dict[str, bytes]]:
    """The manifest, and everything by its digest."""
    with tarfile.open(archive) as tar:

        def member(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        entry = json.loads(member("manifest.json"))[0]
        config, layers = member(entry["Config"]), [member(name) for name in entry["Layers"]]
    blobs = {_digest(data): data for data in (config, *layers)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor("application/vnd.docker.container.image.v1+json", config),
        "layers": [_descriptor("application/vnd.docker.image.rootfs.diff.tar", layer) for layer in layers],
    }
    encoded = json.dumps(manifest).encode()
    return encoded, blobs | {_digest(encoded): encoded}


@contextmanager
def serving(archive: Path, repository: str, tag: str, login: str = "") -> Iterator[int]:
    """The port at which REPOSITORY:TAG can be pulled; with a `login` (USER:PASSWORD) only by who has that."""
    manifest, blobs = contents(archive)
    wanted = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that BaseHTTPRequestHandler calls
            if wanted not in (None, self.headers.get("Authorization")):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="registry"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            kind, _, name = self.path.removeprefix(f"/v2/{repository}/").partition("/")
            found = manifest if (kind, name) == ("manifests", tag) else blobs.get(name)
            if self.path == "/v2/":
                found = b"{}"
            self.send_response(404 if found is None else 200)
            if kind == "manifests" and found is not None:
                self.send_header("Content-Type", MANIFEST)
                self.send_header("Docker-Content-Digest", _digest(found))
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(kind: str, data: bytes) -> dict[str, str | int]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}
