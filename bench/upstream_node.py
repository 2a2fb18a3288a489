"""A whole cluster of upstream's parts on this machine, to compare with: etcd, kube-apiserver, controller manager,
scheduler, kubelet, and Debian's containerd with runc and the bridge CNI plugin. Needs root.

    python bench/upstream_node.py --dir DIR --image busybox.tar -- python bench/pods.py

runs a command with KUBECONFIG set, against a cluster with everything in a temporary directory, and removes it all
again. DIR holds etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kubelet.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from servers import CLOCK, PATIENCE, TOKEN, free_port, running, upstream

NODE, BRIDGE, PODS = "upstream", "bench0", "10.213.0.0/24"
PAUSE = "bench.local/pause:1"
CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{folder}/run"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""


def kubeconfig(folder: str, url: str) -> str:
    """The path of a kubeconfig of an administrator."""
    path = Path(folder, "kubeconfig")
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "bench", "user": {"token": TOKEN}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    }
    path.write_text(json.dumps(content))
    return str(path)


def kubelet_configuration(folder: str) -> str:
    path = Path(folder, "kubelet.json")
    content = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/bench-upstream",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "failSwapOn": False,
        "failCgroupV1": False,
        "port": free_port(),
        "healthzPort": 0,
        "readOnlyPort": 0,
        "podLogsDir": f"{folder}/logs",
        "resolvConf": "",
        "evictionHard": {"memory.available": "10Mi"},
    }
    path.write_text(json.dumps(content))
    return str(path)


def cni(folder: str) -> None:
    directory = Path(folder, "cni")
    directory.mkdir()
    ipam = {"type": "host-local", "dataDir": f"{folder}/ipam", "ranges": [[{"subnet": PODS}]]}
    plugin = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipam": {**ipam, "routes": [{"dst": "0.0.0.0/0"}]}}
    network = {"cniVersion": "0.4.0", "name": "bench", "plugins": [plugin]}
    (directory / "10-bench.conflist").write_text(json.dumps(network))


def pause_image(image: Path, folder: str) -> Path:
    """An archive of an image that sleeps, of the layers of the archive `image`."""
    target = Path(folder, "pause.tar")
    with tarfile.open(image) as source, tarfile.open(target, "w") as out:
        manifest: dict[str, Any] = json.loads(_content(source, "manifest.json"))[0]
        config: dict[str, Any] = json.loads(_content(source, manifest["Config"]))
        config["config"] = {**config.get("config", {}), "Entrypoint": ["sleep", "1000000"], "Cmd": None}
        data = json.dumps(config).encode()
        name = f"{sha256(data).hexdigest()}.json"
        files = {layer: _content(source, layer) for layer in manifest["Layers"]}
        listed = [{"Config": name, "RepoTags": [PAUSE], "Layers": manifest["Layers"]}]
        files |= {name: data, "manifest.json": json.dumps(listed).encode()}
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return target


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise SystemExit(f"{name} is missing in the image's archive")
    return file.read()


@contextlib.contextmanager
def cluster(binaries: Path, image: Path) -> Iterator[dict[str, Any]]:
    """Its `kubeconfig`, the `pids` of its processes and `folder`, where all of it is."""
    programs = {
        name: str(binaries / name)
        for name in ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-apiserver")
    }
    arguments = ["--allow-privileged"]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-upstream-"))
        stack.callback(_clean, folder)
        server = stack.enter_context(upstream(programs["kube-apiserver"], str(binaries / "etcd"), arguments))
        config = kubeconfig(folder, server.url)
        pids = [*server.pids]

        def start(name: str, *words: str) -> None:
            pids.append(stack.enter_context(running([*words], folder, name)))

        cni(folder)
        Path(folder, "containerd.toml").write_text(CONTAINERD.format(folder=folder, pause=PAUSE))
        start("containerd", "containerd", "--config", f"{folder}/containerd.toml")
        _until(lambda: _load(folder, image) and _load(folder, pause_image(image, folder)))
        key = f"{folder}/key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        manager = ["--kubeconfig", config, "--leader-elect=false", "--service-account-private-key-file", key]
        manager += ["--use-service-account-credentials=false", "--root-ca-file", _certificate(folder), "--secure-port"]
        start("manager", programs["kube-controller-manager"], *manager, str(free_port()))
        where = ["--leader-elect=false", "--secure-port", str(free_port())]
        start("scheduler", programs["kube-scheduler"], "--kubeconfig", config, *where)
        words = ["--kubeconfig", config, "--config", kubelet_configuration(folder), "--hostname-override", NODE]
        start("kubelet", programs["kubelet"], *words, "--root-dir", f"{folder}/kubelet", "--cert-dir", f"{folder}/pki")
        _until(lambda: _ready(config))
        yield {"kubeconfig": config, "pids": pids, "folder": folder}


def _certificate(folder: str) -> str:
    """Some authority's: pods get it in their ConfigMap, and nobody uses it."""
    path = f"{folder}/ca.crt"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=bench"]
    subprocess.run([*words, "-keyout", f"{folder}/ca.key", "-out", path], check=True, capture_output=True)
    return path


def _load(folder: str, archive: Path) -> bool:
    words = ["ctr", "-a", f"{folder}/containerd.sock", "-n", "k8s.io", "images", "import", str(archive)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _ready(config: str) -> bool:
    words = ["kubectl", "--kubeconfig", config, "wait", "node", NODE, "--for=condition=Ready", "--timeout=1s"]
    account = ["kubectl", "--kubeconfig", config, "get", "serviceaccount", "default"]
    return all(subprocess.run(one, capture_output=True, check=False).returncode == 0 for one in (words, account))


def _until(condition: Any) -> None:
    start = CLOCK.monotonic()
    while not condition():
        if CLOCK.monotonic() - start > 3 * PATIENCE:
            raise SystemExit("upstream's cluster did not become ready")
        CLOCK.pause(0.2)


def _clean(folder: str) -> None:
    """What containerd and its shims leave: processes, mounts, the bridge, cgroups."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit() and folder.encode() in (entry / "cmdline").read_bytes():
                for child in (entry / "task" / entry.name / "children").read_text().split():
                    os.kill(int(child), 9)
                os.kill(int(entry.name), 9)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed([point for point in mounts if point.startswith(folder) or "/netns/cni-" in point]):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        if "/netns/cni-" in point:
            Path(point).unlink(missing_ok=True)
    subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and os.readlink(link).startswith(folder):
            link.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with cluster(options.dir, options.image) as made:
        environment = {**os.environ, "KUBECONFIG": made["kubeconfig"]}
        return subprocess.run(options.command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
