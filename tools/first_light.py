"""Start a cluster and run the notes' first example: what `make run` does after everything is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def run(*words: str) -> str:
    print("$", " ".join(Path(words[0]).name if i == 0 else word for i, word in enumerate(words)), flush=True)
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


def main(images: Path) -> None:
    tiphys, kubectl = str(BIN / "tiphys"), str(BIN / "kubectl")
    run(tiphys, "up", "--image", str(images / "busybox.tar"), "--image", str(images / "nginx.tar"))
    run(kubectl, "apply", "-f", "examples/nginx-pod.yaml")
    run(kubectl, "wait", "pod/nginx", "--for=condition=Ready", "--timeout=60s")
    run(kubectl, "get", "pod", "nginx", "-o", "wide")
    if os.geteuid():  # pods of rootless clusters are reached through the API server
        run(kubectl, "get", "--raw", "/api/v1/namespaces/default/pods/nginx:80/proxy/")
    else:
        ask(run(kubectl, "get", "pod", "nginx", "-o", "jsonpath={.status.podIP}"))
    print("`kubectl get pods` goes on from here; `tiphys delete` removes everything.")


def ask(address: str) -> None:
    print()
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        print(f"GET http://{address}/ -> {answer.status}")
        print(answer.read().decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
