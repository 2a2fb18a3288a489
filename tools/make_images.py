"""Make the images that the examples name, busybox and nginx, from Debian's packages: real programs, no registry.

    python tools/make_images.py DIRECTORY

writes DIRECTORY/busybox.tar and DIRECTORY/nginx.tar (docker-archive files with one and three tags). Needs Debian's
apt-get and dpkg-deb, no root. The nginx of every tag is Debian's; the tags differ in the page that they serve, so
that a rolling update can be watched.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

BUSYBOX = ("busybox-static",)
NGINX = ("nginx", "nginx-common", "libc6", "libpcre2-8-0", "libssl3", "zlib1g", "libcrypt1")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
SKIPPED = ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/vim", "usr/lib/modules", "lib/systemd")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n"
    "nobody:x:65534:65534::/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n",
}
NGINX_CONFIGURATION = """\
user www-data;
worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 512; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout;
    sendfile on;
    server {
        listen 80;
        root /usr/share/nginx/html;
    }
}
"""


class Layer:
    """A tar in memory, the same bytes every time it is made from the same files."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w")
        self._seen: set[str] = set()

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        entry = self._entry(path, mode)
        entry.size = len(data)
        self._tar.addfile(entry, io.BytesIO(data))

    def link(self, path: str, target: str) -> None:
        entry = self._entry(path, 0o777)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def directory(self, path: str, mode: int = 0o755) -> None:
        if path in self._seen:
            return
        entry = self._entry(path, mode)
        entry.type = tarfile.DIRTYPE
        self._tar.addfile(entry)

    def tree(self, root: Path) -> None:
        """Everything under `root` but documentation; /bin and /lib stay directories."""
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if name.startswith(SKIPPED) or name in self._seen:
                continue
            if path.is_symlink():
                self.link(name, path.readlink().as_posix())
            elif path.is_dir():
                self.directory(name, path.stat().st_mode & 0o7777)
            else:
                self.file(name, path.read_bytes(), path.stat().st_mode & 0o7777)

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()

    def _entry(self, path: str, mode: int) -> tarfile.TarInfo:
        self._seen.add(path)
        entry = tarfile.TarInfo(path)
        entry.mode = mode
        return entry


def unpack(packages: tuple[str, ...], work: Path) -> Path:
    """Download Debian packages and unpack them into one directory."""
    downloads, root = work / "debs", work / "root"
    downloads.mkdir(parents=True)
    subprocess.run(
        ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages], cwd=downloads, check=True
    )
    for file in sorted(downloads.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(file), str(root)], check=True)
    return root


def busybox_layer(work: Path) -> bytes:
    program = unpack(BUSYBOX, work) / "bin" / "busybox"
    applets = subprocess.run([str(program), "--list"], capture_output=True, text=True, check=True).stdout.split()
    layer = Layer()
    for directory, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755)):
        layer.directory(directory, mode)
    layer.file("bin/busybox", program.read_bytes(), 0o755)
    for applet in sorted(set(applets) - {"busybox"}):
        layer.link(f"bin/{applet}", "busybox")
    for name, text in ACCOUNTS.items():
        layer.file(name, text.encode())
    return layer.bytes()


def nginx_layer(work: Path) -> bytes:
    layer = Layer()
    layer.file("etc/nginx/nginx.conf", NGINX_CONFIGURATION.encode())
    layer.tree(unpack(NGINX, work))
    for directory in ("run", "var/lib/nginx", "var/log/nginx", "usr/share/nginx/html"):
        layer.directory(directory)
    return layer.bytes()


def page_layer(tag: str) -> bytes:
    layer = Layer()
    page = f"<!DOCTYPE html><title>Welcome to nginx!</title>\n<h1>Welcome to nginx!</h1>\n<p>nginx:{tag}</p>\n"
    layer.file("usr/share/nginx/html/index.html", page.encode())
    return layer.bytes()


def configuration(layers: list[bytes], settings: dict[str, Any]) -> bytes:
    """An OCI image configuration."""
    return json.dumps(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Env": [PATH], **settings},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}" for layer in layers]},
        },
        sort_keys=True,
    ).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_archive(path: Path, images: list[tuple[str, list[bytes], dict[str, Any]]]) -> None:
    """A docker-archive of (tag, layers, settings); shared layers are stored once."""
    manifest = []
    archive = Layer()
    stored: set[str] = set()

    def store(name: str, data: bytes) -> str:
        if name not in stored:
            stored.add(name)
            archive.file(name, data)
        return name

    for tag, layers, settings in images:
        config = configuration(layers, settings)
        manifest.append(
            {
                "Config": store(f"{digest(config)}.json", config),
                "RepoTags": [tag],
                "Layers": [store(f"{digest(layer)}.tar", layer) for layer in layers],
            }
        )
    archive.file("manifest.json", json.dumps(manifest).encode())
    path.write_bytes(archive.bytes())
    print(path)


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        base, server = busybox_layer(work / "busybox"), nginx_layer(work / "nginx")
    settings = {
        "Cmd": ["nginx", "-g", "daemon off;"],
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
    }
    write_archive(directory / "busybox.tar", [("busybox:latest", [base], {"Cmd": ["sh"]})])
    tags = ("latest", "1.7.9", "1.25")
    write_archive(
        directory / "nginx.tar", [(f"nginx:{tag}", [base, server, page_layer(tag)], settings) for tag in tags]
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
