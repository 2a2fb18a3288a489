"""Every file of the notes, applied as written."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e


def fetch(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}", timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def nginx(cluster: Commands) -> Commands:
    cluster.apply("nginx-pod.yaml")
    cluster.wait("pod/nginx", "condition=Ready")
    return cluster


@pytest.fixture(scope="module", autouse=True)
def slow_ones(cluster: Commands) -> None:
    """What takes a minute by its nature starts first."""
    cluster.apply("liveness-exec.yaml")
    cluster.apply("cronjob-demo.yaml")


def test_nginx_answers_on_its_pod_address(nginx: Commands) -> None:
    assert "Welcome to nginx!" in fetch(nginx.out("get", "pod", "nginx", "-o", "jsonpath={.status.podIP}"))


def test_logs_show_the_request(nginx: Commands) -> None:
    fetch(nginx.out("get", "pod", "nginx", "-o", "jsonpath={.status.podIP}") + "/?first-light")
    assert "GET /?first-light HTTP/1.1" in nginx.out("logs", "nginx")
    assert len(nginx.out("logs", "nginx", "--tail=1").splitlines()) == 1


def test_exec_runs_beside_the_program_and_returns_its_exit_code(nginx: Commands) -> None:
    assert nginx.out("exec", "nginx", "--", "cat", "/proc/1/comm") == "nginx"
    assert nginx.kubectl("exec", "-i", "nginx", "--", "cat", stdin="through stdin").stdout == "through stdin"
    failed = nginx.kubectl("exec", "nginx", "--", "sh", "-c", "echo oops >&2; exit 7", check=False)
    assert failed.returncode == 7
    assert "oops" in failed.stderr


def test_attach_shows_what_the_program_prints(nginx: Commands) -> None:
    nginx.kubectl(
        "run", "speaker", "--image=busybox", "--restart=Never", "-i", "--command", "--", "cat", stdin="echo me\n"
    )
    assert "echo me" in nginx.out("logs", "speaker")
    nginx.kubectl("delete", "pod", "speaker", "--now")


def test_port_forward_reaches_the_pod(nginx: Commands) -> None:
    forward = nginx.popen("port-forward", "pod/nginx", ":80")
    try:
        assert forward.stdout is not None
        port = forward.stdout.readline().split("127.0.0.1:")[1].split()[0]
        for _ in range(3):
            assert "Welcome to nginx!" in fetch(f"127.0.0.1:{port}")
    finally:
        forward.terminate()
        forward.wait()


def test_cp_goes_both_ways(nginx: Commands, tmp_path: Path) -> None:
    there, back = tmp_path / "page.html", tmp_path / "back.html"
    there.write_text("<p>" + "copied " * 100_000)
    nginx.kubectl("cp", str(there), "nginx:/usr/share/nginx/html/copied.html")
    assert (
        fetch(nginx.out("get", "pod", "nginx", "-o", "jsonpath={.status.podIP}") + "/copied.html") == there.read_text()
    )
    nginx.kubectl("cp", "nginx:/usr/share/nginx/html/copied.html", str(back))
    assert back.read_bytes() == there.read_bytes()


def test_describe_tells_the_pod_s_story(nginx: Commands) -> None:
    text = nginx.out("describe", "pod", "nginx")
    for word in ("Scheduled", "Pulled", "Created", "Started", "Successfully assigned default/nginx to", "Ready "):
        assert word in text


def test_counter_s_second_container_shows_what_the_first_writes(cluster: Commands) -> None:
    cluster.apply("counter-pod.yaml")
    cluster.wait("pod/counter", "condition=Ready")
    follow = cluster.popen("logs", "-f", "counter", "-c", "count-log")
    try:
        assert follow.stdout is not None
        lines = [follow.stdout.readline() for _ in range(3)]
    finally:
        follow.terminate()
        follow.wait()
    numbers = [int(line.split(":")[0]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    cluster.kubectl("delete", "pod", "counter", "--now")


def test_resource_limits_are_in_the_cgroups(cluster: Commands) -> None:
    cluster.apply("pod-resource-demo1.yaml")
    cluster.wait("pod/resource-demo1", "condition=Ready")
    pid = cgroup_processes(cluster, "resource-demo1")
    values = limits(pid)
    assert values["memory"] == 100 * 2**20
    assert values["quota"] == 10_000
    assert values["period"] == 100_000
    cluster.kubectl("delete", "pod", "resource-demo1", "--now")


def test_a_replica_set_keeps_three(cluster: Commands) -> None:
    cluster.apply("nginx-rs.yaml")
    cluster.wait("rs/nginx-rs", "jsonpath={.status.readyReplicas}=3")
    victim = cluster.get("pods", "-l", "app=nginx")["items"]
    owned = [pod["metadata"]["name"] for pod in victim if pod["metadata"].get("ownerReferences")]
    cluster.kubectl("delete", "pod", owned[0], "--now")
    cluster.wait("rs/nginx-rs", "jsonpath={.status.readyReplicas}=3")
    now = [pod["metadata"]["name"] for pod in cluster.get("pods", "-l", "app=nginx")["items"]]
    assert owned[0] not in now
    cluster.kubectl("delete", "rs", "nginx-rs", "--wait")


def test_a_deployment_rolls_within_its_bounds_and_back(cluster: Commands) -> None:
    cluster.apply("nginx-deploy.yaml")
    cluster.kubectl("rollout", "status", "deploy/nginx-deploy", "--timeout=60s")
    watch = cluster.popen(
        "get", "deploy", "nginx-deploy", "-w", "-o", "jsonpath={.status.availableReplicas} {.status.replicas}{'\\n'}"
    )
    cluster.kubectl("set", "image", "deploy/nginx-deploy", "nginx=nginx:1.7.9")
    cluster.kubectl("rollout", "status", "deploy/nginx-deploy", "--timeout=60s")
    watch.terminate()
    assert watch.stdout is not None
    seen = [tuple(map(int, line.split())) for line in watch.stdout.read().splitlines() if len(line.split()) == 2]
    assert min(available for available, _ in seen) >= 3
    assert max(total for _, total in seen) <= 4
    assert "nginx:1.7.9" in cluster.out("get", "deploy", "nginx-deploy", "-o", "wide")
    history = cluster.out("rollout", "history", "deploy/nginx-deploy").splitlines()
    assert [line.split()[0] for line in history[2:] if line] == ["1", "2"]
    cluster.kubectl("rollout", "undo", "deploy/nginx-deploy")
    cluster.kubectl("rollout", "status", "deploy/nginx-deploy", "--timeout=60s")
    image = cluster.out("get", "deploy", "nginx-deploy", "-o", "jsonpath={..image}")
    assert image == "nginx"


def test_a_deployment_scales(cluster: Commands) -> None:
    cluster.kubectl("scale", "deploy/nginx-deploy", "--replicas=5")
    cluster.wait("deploy/nginx-deploy", "jsonpath={.status.readyReplicas}=5")
    cluster.kubectl("scale", "deploy/nginx-deploy", "--replicas=1")
    cluster.wait("deploy/nginx-deploy", "jsonpath={.status.replicas}=1")
    cluster.kubectl("delete", "deploy", "nginx-deploy", "--wait")


def test_a_daemon_set_has_a_pod_a_node_also_on_a_new_one(cluster: Commands) -> None:
    cluster.apply("nginx-ds.yaml")
    cluster.kubectl("rollout", "status", "ds/nginx-ds", "--timeout=60s")
    assert where(cluster) == ["node-1", "node-2"]
    cluster.tiphys("node", "add", "--name", "e2e")
    cluster.wait("ds/nginx-ds", "jsonpath={.status.numberReady}=3")
    assert where(cluster) == ["node-1", "node-2", "node-3"]
    cluster.tiphys("node", "remove", "node-3", "--name", "e2e")
    cluster.wait("ds/nginx-ds", "jsonpath={.status.desiredNumberScheduled}=2")
    cluster.kubectl("delete", "ds", "nginx-ds", "--wait")


def where(cluster: Commands) -> list[str]:
    pods = cluster.get("pods", "-l", "k8s-app=nginx")["items"]
    return sorted(pod["spec"]["nodeName"] for pod in pods)


def test_a_job_counts_down_and_completes(cluster: Commands) -> None:
    cluster.apply("job-demo.yaml")
    cluster.wait("job/job-demo", "condition=Complete")
    assert cluster.out("logs", "job/job-demo").split() == list("987654321")
    cluster.kubectl("delete", "job", "job-demo")


def test_maps_are_refused_as_upstream_refuses_them(cluster: Commands) -> None:
    answer = cluster.kubectl("apply", "-f", str(Path("examples/yaml-maps.yaml").resolve()), check=False)
    assert answer.returncode == 1
    assert 'Pod "ydzs-site" is invalid: spec.containers: Required value' in answer.stderr


def test_a_failing_probe_restarts_the_container(cluster: Commands) -> None:
    cluster.wait("pod/liveness-exec", "jsonpath={.status.containerStatuses[0].restartCount}=1", 110)
    events = cluster.out("get", "events", "--field-selector", "involvedObject.name=liveness-exec")
    assert "Liveness probe failed: cat: can't open '/tmp/healthy': No such file or directory" in events
    assert "Container liveness failed liveness probe, will be restarted" in events
    cluster.kubectl("delete", "pod", "liveness-exec", "--now")


def test_a_cron_job_makes_a_job_at_the_next_minute(cluster: Commands) -> None:
    cluster.wait("cronjob/cronjob-demo", "jsonpath={.status.lastSuccessfulTime}", 100)
    jobs = cluster.get("jobs")["items"]
    owners = [ref["name"] for job in jobs for ref in job["metadata"].get("ownerReferences", ())]
    assert "cronjob-demo" in owners
    cluster.kubectl("delete", "cronjob", "cronjob-demo")


def cgroup_processes(cluster: Commands, pod: str) -> int:
    """The host's pid of the first process of the pod's (only) container, found by its hostname."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and "nginx: master" in _command(entry):
            done = subprocess.run(
                ["nsenter", "-t", entry.name, "-u", "hostname"], capture_output=True, text=True, check=False
            )
            if done.stdout.strip() == pod:
                return int(entry.name)
    raise AssertionError(f"no nginx of {pod} runs")


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def limits(pid: int) -> dict[str, int]:
    """The limits of a process's cgroup, v1 or v2."""
    groups = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        own = root / groups[""].lstrip("/")
        quota, period = (own / "cpu.max").read_text().split()
        return {"memory": int((own / "memory.max").read_text()), "quota": int(quota), "period": int(period)}
    cpu, memory = root / "cpu" / groups["cpu"].lstrip("/"), root / "memory" / groups["memory"].lstrip("/")
    return {
        "memory": int((memory / "memory.limit_in_bytes").read_text()),
        "quota": int((cpu / "cpu.cfs_quota_us").read_text()),
        "period": int((cpu / "cpu.cfs_period_us").read_text()),
    }
