"""What the suite asks of a node and other tests do not: one pod a case, all made at once, each awaited by its test."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands
from tiphys.api.quantity import parse

pytestmark = pytest.mark.e2e

NAMESPACE = "node-conformance"
DATA = {"data_1": "value-1", "data-2": "value-2", "data.3": "value-3"}
OBJECTS = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": DATA},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": DATA},
]
PREFIXES = ("", "p_", "123_", "$_-.")
LIMITS = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}
READS_OWN_HOSTS = {"volumeMounts": [{"name": "v", "mountPath": "/etc/hosts", "subPath": "hosts"}]}


def container(script: str = "sleep 3600", **more: Any) -> dict[str, Any]:
    main = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    return {name: value for name, value in (main | more).items() if value is not None}


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    whole = {"terminationGracePeriodSeconds": 1, "containers": list(containers) or [container()], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole}


def job(name: str, script: str, more: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return pod(name, container(script, **(more or {})), restartPolicy="Never", **spec)


def field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def size(name: str, resource: str, divisor: str = "1") -> dict[str, Any]:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}}


def from_image(name: str, **words: Any) -> dict[str, Any]:
    """A pod of the image whose entrypoint prints `image` and what it is given."""
    return pod(name, container(image="words:1", **{"command": None, **words}), restartPolicy="Never")


def sub_path(name: str, script: str, value: str, expression: str) -> dict[str, Any]:
    mounts = [
        {"name": "v", "mountPath": "/v", "subPathExpr": expression},
        {"name": "v", "mountPath": "/all"},
    ]
    env = [{"name": "NAME", "value": value}]
    return job(name, script, {"env": env, "volumeMounts": mounts}, volumes=[{"name": "v", "emptyDir": {}}])


def hooked(name: str, hook: str, handler: dict[str, Any]) -> dict[str, Any]:
    return pod(name, container(lifecycle={hook: handler}), terminationGracePeriodSeconds=2)


def prefixed(kind: str) -> dict[str, Any]:
    source = {"configMapRef": {"name": "conf"}} if kind == "map" else {"secretRef": {"name": "key"}}
    return {"command": ["env"], "envFrom": [{"prefix": prefix, **source} for prefix in PREFIXES]}


ENVIRONMENTS = [job("env-map", "", prefixed("map")), job("env-secret", "", prefixed("secret"))]
PRINTED = [
    (
        job(
            "env-keys",
            "echo $A $B",
            {
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "data_1"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "key", "key": "data-2"}}},
                ]
            },
        ),
        "value-1 value-2",
    ),
    (from_image("image-defaults"), "image default"),
    (from_image("image-arguments", args=["override", "arguments"]), "image override arguments"),
    (from_image("image-command", command=["/bin/echo"]), ""),
    (from_image("image-both", command=["/bin/echo"], args=["both"]), "both"),
    (job("expand-command", "", {"command": ["sh", "-c", "echo $(A)"], "env": [{"name": "A", "value": "a"}]}), "a"),
    (sub_path("sub-path", "touch /v/x; ls /all/foo", "foo", "$(NAME)"), "x"),
    (
        job(
            "aliases",
            "tail -1 /etc/hosts; head -1 /etc/hosts",
            hostAliases=[{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}],
        ),
        "123.45.67.89\tfoo\tbar\n# Kubernetes-managed hosts file.",
    ),
    (
        job(
            "own-hosts",
            "cat /etc/hosts",
            READS_OWN_HOSTS,
            volumes=[{"name": "v", "emptyDir": {}}],
            initContainers=[
                container("echo mine > /v/hosts", name="i", volumeMounts=[{"name": "v", "mountPath": "/v"}])
            ],
        ),
        "mine",
    ),
    (
        job("writable-root", "touch /x && echo written", {"securityContext": {"readOnlyRootFilesystem": False}}),
        "written",
    ),
    (
        job(
            "unprivileged",
            "ip link add dummy0 type dummy 2>/dev/null || echo refused",
            {"securityContext": {"privileged": False}},
        ),
        "refused",
    ),
    (job("user", "id -u", {"securityContext": {"runAsUser": 65534}}), "65534"),
    (
        job(
            "user-of-pod",
            "id -u; id -g",
            securityContext={"runAsUser": 1001, "runAsGroup": 2002},
        ),
        "1001\n2002",
    ),
]
MESSAGES = [
    (job("empty-message", "echo logged", {"terminationMessagePolicy": "FallbackToLogsOnError"}), None),
    (
        job(
            "file-message",
            "echo logged; printf said > /dev/termination-log",
            {"terminationMessagePolicy": "FallbackToLogsOnError"},
        ),
        "said",
    ),
]
REFUSED = [
    sub_path("absolute", "true", "/tmp", "$(NAME)"),
    sub_path("backticks", "true", "..", "$(NAME)"),
]
DOWNWARD = job(
    "downward",
    "env",
    {
        "resources": LIMITS,
        "env": [
            field("HOST_IP", "status.hostIP"),
            field("HOST_IPS", "status.hostIPs"),
            field("POD_IP", "status.podIP"),
            field("POD_UID", "metadata.uid"),
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            size("CPU_REQUEST", "requests.cpu", "1m"),
            size("CPU_LIMIT", "limits.cpu"),
            size("MEMORY_REQUEST", "requests.memory"),
            size("MEMORY_LIMIT", "limits.memory"),
        ],
    },
)
UNLIMITED = job("unlimited", "env", {"env": [size("CPU", "limits.cpu"), size("MEMORY", "limits.memory", "1Mi")]})
COUNTED = "echo >> /v/runs; sleep 1; test $(wc -l < /v/runs) -ge 2"
VOLUME = [{"name": "v", "emptyDir": {}}]
MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
ENDS = [
    pod("ends-always", container(COUNTED, **MOUNT), volumes=VOLUME, restartPolicy="Always"),
    pod("ends-on-failure", container(COUNTED, **MOUNT), volumes=VOLUME, restartPolicy="OnFailure"),
    pod("ends-never", container(COUNTED, **MOUNT), volumes=VOLUME, restartPolicy="Never"),
]
HEALTHY = {"exec": {"command": ["cat", "/tmp/health"]}, "periodSeconds": 1, "initialDelaySeconds": 1}
PROBED = [
    pod("exec-fails", container("touch /tmp/health; sleep 4; rm /tmp/health; sleep 3600", livenessProbe=HEALTHY)),
    pod("exec-holds", container("touch /tmp/health; sleep 3600", livenessProbe=HEALTHY)),
    pod(
        "http-holds",
        container(
            "mkdir /w; echo ok > /w/healthz; httpd -f -p 8080 -h /w",
            livenessProbe={"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "initialDelaySeconds": 1},
        ),
    ),
]
OTHERS = [
    DOWNWARD,
    UNLIMITED,
    pod("plain"),
    pod("deadline"),
    pod("generations"),
    pod("failing", container("false")),
    pod("removed", terminationGracePeriodSeconds=30),
    pod(
        "expands-late",
        container(
            env=[field("NAME", "metadata.annotations['place']")],
            volumeMounts=[{"name": "v", "mountPath": "/v", "subPathExpr": "$(NAME)/x"}],
        ),
        volumes=VOLUME,
    ),
]


def image_of_words(busybox: Path, target: Path) -> None:
    """busybox with an entrypoint and a command of its own, as words:1."""
    with tarfile.open(busybox) as old:
        members = {member.name: old.extractfile(member) for member in old if member.isfile()}
        contents = {name: file.read() for name, file in members.items() if file}
    manifest = json.loads(contents.pop("manifest.json"))
    config = json.loads(contents.pop(manifest[0]["Config"]))
    config["config"] = {**config["config"], "Entrypoint": ["/bin/echo", "image"], "Cmd": ["default"]}
    encoded = json.dumps(config).encode()
    name = f"{sha256(encoded).hexdigest()}.json"
    contents |= {name: encoded}
    contents["manifest.json"] = json.dumps([{**manifest[0], "Config": name, "RepoTags": ["words:1"]}]).encode()
    with tarfile.open(target, "w") as new:
        for path, data in contents.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            new.addfile(entry, io.BytesIO(data))


class Node:
    """The commands, in the namespace of these tests."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.until = commands.until

    def kubectl(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        done = self.commands.kubectl("-n", NAMESPACE, *words, check=check, stdin=stdin)
        return done.stdout + done.stderr

    def create(self, *objects: Any) -> None:
        self.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, name: str) -> Any:
        return self.commands.get("-n", NAMESPACE, "pod", name)

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.get(name).get("status") or {})

    def container(self, name: str) -> dict[str, Any]:
        return dict((self.status(name).get("containerStatuses") or [{"state": {}, "restartCount": 0}])[0])

    def ended(self, name: str, phase: str = "Succeeded") -> None:
        self.kubectl("wait", f"pod/{name}", f"--for=jsonpath={{.status.phase}}={phase}", "--timeout=60s")

    def printed(self, name: str) -> str:
        self.ended(name)
        return self.kubectl("logs", name, "-c", "c").rstrip("\n")

    def environment(self, name: str) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.printed(name).splitlines() if "=" in line)

    def ready(self, name: str) -> None:
        self.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")


@pytest.fixture(scope="module")
def node(cluster: Commands, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Node:
    made = Node(cluster)
    words = tmp_path_factory.mktemp("images") / "words.tar"
    image_of_words(images[0], words)
    cluster.tiphys("image", "load", str(words))
    cluster.kubectl("create", "namespace", NAMESPACE)
    made.kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=30s")
    tables = [*PRINTED, *MESSAGES]
    made.create(*OBJECTS, *ENVIRONMENTS, *(case for case, _ in tables), *REFUSED, *ENDS, *PROBED, *OTHERS)
    return made


def cases(table: list[tuple[dict[str, Any], Any]]) -> list[Any]:
    return [pytest.param(case["metadata"]["name"], wanted, id=case["metadata"]["name"]) for case, wanted in table]


@pytest.mark.parametrize("name", ["env-map", "env-secret"])
def test_every_key_is_a_variable_with_each_prefix(node: Node, name: str) -> None:
    found = node.environment(name)
    wanted = {f"{prefix}{key}": value for prefix in PREFIXES for key, value in DATA.items()}
    assert {key: found.get(key) for key in wanted} == wanted


@pytest.mark.parametrize(("name", "text"), cases(PRINTED))
def test_a_container_prints_what_its_pod_asked_for(node: Node, name: str, text: str) -> None:
    assert node.printed(name) == text


@pytest.mark.parametrize(("name", "message"), cases(MESSAGES))
def test_the_log_is_a_message_only_of_what_failed(node: Node, name: str, message: str | None) -> None:
    node.ended(name)
    assert node.container(name)["state"]["terminated"].get("message") == message


@pytest.mark.parametrize("name", [case["metadata"]["name"] for case in REFUSED])
def test_a_sub_path_that_leads_out_is_refused(node: Node, name: str) -> None:
    def reason() -> str:
        return str((node.container(name)["state"].get("waiting") or {}).get("reason"))

    node.until(lambda: reason() == "CreateContainerConfigError")


def test_addresses_names_and_sizes_are_in_the_environment(node: Node) -> None:
    found = node.environment("downward")
    whole = node.get("downward")
    status = whole["status"]
    assert found["HOST_IP"] == found["HOST_IPS"] == status["hostIP"] == status["hostIPs"][0]["ip"]
    assert found["POD_IP"] == status["podIP"]
    names = (found["POD_UID"], found["POD_NAME"], found["POD_NAMESPACE"])
    assert names == (whole["metadata"]["uid"], "downward", NAMESPACE)
    sizes = [found[name] for name in ("CPU_REQUEST", "CPU_LIMIT", "MEMORY_REQUEST", "MEMORY_LIMIT")]
    assert sizes == ["250", "2", str(32 << 20), str(64 << 20)]


def test_limits_that_are_not_set_are_what_the_node_has(node: Node) -> None:
    found = node.environment("unlimited")
    name = node.get("unlimited")["spec"]["nodeName"]
    allocatable = node.commands.get("node", name)["status"]["allocatable"]
    assert int(found["CPU"]) == -(-parse(allocatable["cpu"]).milli // 1000)
    assert int(found["MEMORY"]) == -(-parse(allocatable["memory"]).value // (1 << 20))


def test_what_ends_is_run_again_as_its_policy_says(node: Node) -> None:
    node.ended("ends-never", "Failed")
    assert node.container("ends-never")["restartCount"] == 0
    node.ended("ends-on-failure")
    assert node.container("ends-on-failure")["restartCount"] == 1
    node.until(lambda: node.container("ends-always")["restartCount"] >= 2)
    assert node.status("ends-always")["phase"] == "Running"


def test_a_file_that_goes_fails_the_liveness_probe(node: Node) -> None:
    node.until(lambda: node.container("exec-fails")["restartCount"] > 0)
    for name in ("exec-holds", "http-holds"):
        node.ready(name)
        assert node.container(name)["restartCount"] == 0


def test_hooks_are_run_after_the_start_and_before_the_end(node: Node) -> None:
    node.create(pod("server", container("mkdir /w; cd /w; touch a b c d; httpd -f -vv -p 8080")))
    node.ready("server")
    address = node.status("server")["podIP"]

    def http(path: str) -> dict[str, Any]:
        return {"httpGet": {"host": address, "path": path, "port": 8080}}

    def command(path: str) -> dict[str, Any]:
        return {"exec": {"command": ["wget", "-q", "-O-", f"http://{address}:8080{path}"]}}

    node.create(
        hooked("post-http", "postStart", http("/a")),
        hooked("post-exec", "postStart", command("/b")),
        hooked("pre-http", "preStop", http("/c")),
        hooked("pre-exec", "preStop", command("/d")),
    )
    for name in ("post-http", "post-exec", "pre-http", "pre-exec"):
        node.ready(name)
    asked = node.kubectl("logs", "server")
    assert [path in asked for path in ("url:/a", "url:/b", "url:/c", "url:/d")] == [True, True, False, False]
    node.kubectl("delete", "pod", "pre-http", "pre-exec")
    asked = node.kubectl("logs", "server")
    assert "url:/c" in asked
    assert "url:/d" in asked


def test_a_second_ephemeral_container_joins_the_first(node: Node) -> None:
    node.ready("plain")
    for name in ("one", "two"):
        words = ("--image=busybox", "--image-pull-policy=IfNotPresent", "-c", name, "--", "sleep", "3600")
        node.kubectl("debug", "plain", *words)
    node.until(
        lambda: (
            [list(one["state"]) for one in node.status("plain").get("ephemeralContainerStatuses") or ()]
            == [["running"], ["running"]]
        )
    )


def test_a_deadline_may_be_set_while_the_pod_runs(node: Node) -> None:
    node.ready("deadline")
    node.kubectl("patch", "pod", "deadline", "-p", '{"spec": {"activeDeadlineSeconds": 2}}')
    node.ended("deadline", "Failed")
    assert node.status("deadline")["reason"] == "DeadlineExceeded"


def test_the_observed_generation_follows_the_generation(node: Node) -> None:
    node.ready("generations")
    for seconds in range(5020, 5000, -1):
        patch = json.dumps({"spec": {"activeDeadlineSeconds": seconds}})
        node.kubectl("patch", "pod", "generations", "-p", patch)
    assert node.get("generations")["metadata"]["generation"] == 21
    node.until(lambda: node.status("generations").get("observedGeneration") == 21)


def test_what_always_fails_says_so_and_can_be_deleted(node: Node) -> None:
    node.until(
        lambda: (node.container("failing").get("lastState") or {}).get("terminated", {}).get("reason") == "Error"
    )
    node.kubectl("delete", "pod", "failing", "--timeout=30s")


def test_a_pod_is_seen_to_come_and_go(node: Node) -> None:
    node.ready("removed")
    watch = node.commands.popen(
        "-n", NAMESPACE, "get", "pod", "removed", "--watch", "--output-watch-events", "--no-headers"
    )
    try:
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith("ADDED")
        node.kubectl("delete", "pod", "removed", "--now")
        assert any(line.startswith("DELETED") for line in iter(watch.stdout.readline, ""))
    finally:
        watch.kill()
        watch.communicate()


def test_a_sub_path_that_could_not_be_expanded_may_be_mended(node: Node) -> None:
    node.until(lambda: "waiting" in node.container("expands-late")["state"])
    assert node.container("expands-late")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    node.kubectl("annotate", "pod", "expands-late", "place=here")
    node.ready("expands-late")


def test_sysctls_that_are_none_are_refused(node: Node) -> None:
    names = ("foo-", "kernel.shmmax", "safe-and-unsafe", "bar..")
    sysctls = [{"name": name, "value": "1"} for name in names]
    body = json.dumps(pod("sysctls", securityContext={"sysctls": sysctls}))
    answer = node.kubectl("create", "-f", "-", stdin=body, check=False)
    for index, refused in enumerate((True, False, False, True)):
        assert (f"spec.securityContext.sysctls[{index}].name: Invalid value" in answer) is refused
