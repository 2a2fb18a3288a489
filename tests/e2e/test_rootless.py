"""A cluster of an ordinary user: `tiphys` without root, real containers in the user's own namespaces."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.commands import LIMIT, ROOT, Commands
from tiphys.cluster import processes

pytestmark = pytest.mark.e2e

USER = 65534
ALLOWED = Path("/proc/sys/user/max_user_namespaces")
BECOME = """
set -e
mount -t tmpfs none "$SPARE"
for closed in $CLOSED; do
    name=$(echo "$closed" | tr / _)
    mkdir "$SPARE/upper$name" "$SPARE/work$name"
    mount -t overlay none -o "lowerdir=$closed,upperdir=$SPARE/upper$name,workdir=$SPARE/work$name" "$closed"
    chmod o+x "$closed"
done
exec setpriv --reuid="$AS" --regid="$AS" --clear-groups "$@"
"""
"""Lets the user reach the interpreter, in a mount namespace of the command: on some machines it is root's alone."""


class UserCommands(Commands):
    """Runs everything as an ordinary user."""

    def _run(self, words: list[str], check: bool, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        become = ["unshare", "--mount", "--propagation", "private", "sh", "-c", BECOME, "sh"]
        done = subprocess.run(
            [*become, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            input=stdin,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)} -> {done.returncode}\n{done.stdout}{done.stderr}")
        return done


def closed_directories() -> str:
    """Directories above what the user must read that only root may enter."""
    wanted = [Path(sys.base_prefix), Path(sys.prefix), ROOT, Path(sys.executable).resolve()]
    found = [parent for path in wanted for parent in (path, *path.parents) if parent.is_dir()]
    return " ".join(sorted({str(one) for one in found if not one.stat().st_mode & 0o001}))


@pytest.fixture(scope="module")
def user(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[UserCommands]:
    if ALLOWED.read_text().strip() == "0":
        pytest.skip("this kernel lets nobody but root make user namespaces (user.max_user_namespaces is 0)")
    place = Path("/tmp") / f"tiphys-rootless-{os.getpid()}"
    spare = tmp_path_factory.mktemp("spare")
    home = place / "home"
    home.mkdir(parents=True)
    shutil.copy(images[0], home / "busybox.tar")
    for path in (place, home, home / "busybox.tar"):
        os.chown(path, USER, USER)
    commands = UserCommands(home, place / "run")
    commands.environment |= {"SPARE": str(spare), "CLOSED": closed_directories(), "AS": str(USER)}
    commands.environment |= {"PYTHONDONTWRITEBYTECODE": "1", "TIPHYS_HOME": str(home / "tiphys")}
    yield commands
    commands.tiphys("delete", "--all", check=False)
    shutil.rmtree(place)


def test_a_user_has_a_cluster_without_root(user: UserCommands) -> None:
    user.tiphys("up", "mine", "--nodes", "2", "--ip-family", "dual", "--image", str(user.home / "busybox.tar"))
    script = "mkdir /w; echo hello > /w/index.html; httpd -f -p [::]:80 -h /w"
    for name in ("node-1", "node-2"):
        spec = f'{{"spec": {{"nodeName": "{name}"}}}}'
        words = ("--image=busybox", "--image-pull-policy=IfNotPresent", f"--overrides={spec}")
        user.kubectl("run", f"on-{name}", *words, "--", "sh", "-c", script)
    for name in ("node-1", "node-2"):
        user.wait(f"pod/on-{name}", "condition=Ready")
    addresses = [entry["ip"] for entry in user.get("pod", "on-node-2")["status"]["podIPs"]]
    assert [":" in address for address in addresses] == [False, True]
    for shown in (addresses[0], f"[{addresses[1]}]"):
        assert user.out("exec", "on-node-1", "--", "wget", "-qO-", f"http://{shown}/") == "hello"
    assert user.out("exec", "on-node-1", "--", "id", "-u") == "0"
    host = f"/proc/{os.getpid()}/root"
    answer = user.kubectl("exec", "on-node-1", "--", "ls", host, check=False)
    assert answer.returncode != 0
    owners = {os.lstat(one).st_uid for one in (user.home / "tiphys").rglob("*")}
    assert owners == {USER}


def test_names_are_answered(user: UserCommands) -> None:
    name = "kubernetes.default.svc.cluster.local"
    found = user.out("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    for pod in ("on-node-1", "on-node-2"):
        assert f"Address: {found}" in user.out("exec", pod, "--", "nslookup", "-type=a", name)


def test_services_lead_to_pods_of_other_nodes(user: UserCommands) -> None:
    user.kubectl("expose", "pod", "on-node-1", "--name=first", "--port=80")
    address = user.get("service", "first")["spec"]["clusterIP"]
    asked = ("exec", "on-node-2", "--", "wget", "-qO-", f"http://{address}/")
    user.until(lambda: user.kubectl(*asked, check=False).stdout == "hello\n")


def test_ports_are_published_where_the_users_programs_are(user: UserCommands) -> None:
    user.kubectl("expose", "pod", "on-node-1", "--name=web", "--port=80")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = user.tiphys("ports", "add", "--name", "mine", f"{port}:web:80", check=False)
        assert "in use by another program" in refused.stderr
    user.tiphys("ports", "add", "--name", "mine", f"{port}:web:80", f"{port}:kube-system/kube-dns:dns/udp")
    user.until(lambda: json.loads(user.tiphys("ports", "list", "--name", "mine", "-o", "json").stdout)[0]["backends"])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.read() == b"hello\n"
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", port))
        client.send(b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07cluster\x05local\0\0\x06\0\x01")  # SOA of cluster.local
        assert client.recv(1000).startswith(b"\x12\x34")
    user.tiphys("ports", "remove", "--name", "mine", f"{port}/tcp", f"{port}/udp")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_the_agent_may_die_and_pods_go_on(user: UserCommands) -> None:
    before = user.get("pod", "on-node-1")["status"]["containerStatuses"]
    os.kill(processes.pid_of(Path(user.environment["TIPHYS_RUN"]) / "agent.lock"), signal.SIGKILL)
    user.tiphys("node", "add", "third", "--name", "mine")
    user.wait("node/third", "condition=Ready")
    assert user.get("pod", "on-node-1")["status"]["containerStatuses"] == before


def test_an_image_is_pulled_by_the_hosts_network(user: UserCommands, images: list[Path]) -> None:
    from e2e.registry import serving

    with serving(images[0], "own/busybox", "1") as port:
        user.tiphys("image", "pull", f"127.0.0.1:{port}/own/busybox:1")
    assert "own/busybox:1" in user.tiphys("image", "list").stdout


def test_a_user_that_the_image_names_and_the_namespace_lacks_is_refused(user: UserCommands) -> None:
    spec = '{"spec": {"securityContext": {"runAsUser": 1234}, "automountServiceAccountToken": false}}'
    words = ("--image=busybox", "--image-pull-policy=IfNotPresent", f"--overrides={spec}")
    user.kubectl("run", "other", "--restart=Never", *words, "--", "true")
    user.until(lambda: "none of the IDs that this user namespace has" in user.out("get", "pod", "other", "-o", "yaml"))


def test_delete_leaves_nothing(user: UserCommands) -> None:
    user.tiphys("delete", "mine")
    left = [str(path) for path in user.home.parent.rglob("*")]
    assert sorted(path for path in left if "tiphys/" in path or "/run" in path) == []
    mine = [path for path in Path("/proc").glob("[0-9]*") if _owner(path) == USER]
    assert [path.joinpath("cmdline").read_bytes() for path in mine] == []


def _owner(process: Path) -> int:
    try:
        return process.stat().st_uid if process.joinpath("cmdline").read_bytes() else -1
    except OSError:
        return -1
