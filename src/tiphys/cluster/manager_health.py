"""What a controller manager serves of itself, as upstream's on port 10257: /healthz for everybody, /metrics for whom
the API server allows it (TokenReview, SubjectAccessReview on the path)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Forbidden, NotFound, Unauthorized
from tiphys.base.http.server import serve
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.metrics import CONTENT_TYPE, Registry
from tiphys.base.tls import Authority, KeyPair, server_context
from tiphys.client.types import Client, Resource
from tiphys.controllers.manager import ManagerState

log = logging.getLogger(__name__)

TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", namespaced=False)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", namespaced=False)
DEFAULT_PORT = 10257
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """Where to serve, and with which certificate."""

    address: str = "0.0.0.0"  # noqa: S104 - upstream's default
    port: int | None = None
    """None: the usual one, if it can be had; 0: none."""
    certificate: Path | None = None
    key: Path | None = None


@contextlib.asynccontextmanager
async def serving(config: HealthConfig, state: ManagerState, client: Client, clock: Clock) -> AsyncIterator[None]:
    """Serve while the block lasts. Raises OSError for an address that was asked for and cannot be had."""
    if config.port == 0:
        yield
        return
    tls = server_context(_pair(config))
    async with contextlib.AsyncExitStack() as stack:
        port = config.port or DEFAULT_PORT
        try:
            await stack.enter_async_context(serve(handler(state, client), config.address, port, tls=tls, clock=clock))
        except OSError as error:
            if config.port is not None:
                raise
            log.warning("/healthz and /metrics are not served: port %d: %s", port, error.strerror)
        else:
            log.info("serving /healthz and /metrics on https://%s:%d", config.address, port)
        yield


def _pair(config: HealthConfig) -> KeyPair:
    if config.certificate is not None and config.key is not None:
        return KeyPair.load(config.certificate, config.key)
    authority = Authority.create("tiphys-controller-manager")
    return authority.issue("kube-controller-manager", names=("localhost", "127.0.0.1"), server=True)


def handler(state: ManagerState, client: Client) -> Handler:
    """The paths of upstream's handler that make sense here."""

    async def answer(request: Request) -> Response:
        top, _, rest = request.path.strip("/").partition("/")
        try:
            if top == "healthz":
                return _health(state, rest, "verbose" in request.query)
            await _check_access(client, request)
            if request.path == "/metrics":
                return Response(headers={"Content-Type": CONTENT_TYPE}, body=_metrics(state))
            raise NotFound("404 page not found")
        except ApiError as error:
            return Response(error.code, headers=dict(_TEXT), body=f"{error}\n".encode())

    return answer


def _health(state: ManagerState, check: str, verbose: bool) -> Response:
    """All checks, or the one named: a manager whose controllers or election fail has ended."""
    names = [*(["leaderElection"] if state.election is not None else []), *state.controllers]
    if check and check not in names:
        raise NotFound("404 page not found")
    if check or not verbose:
        return Response(headers=dict(_TEXT), body=b"ok")
    lines = [f"[+]{name} ok" for name in names]
    return Response(headers=dict(_TEXT), body="\n".join([*lines, "healthz check passed", ""]).encode())


def _metrics(state: ManagerState) -> bytes:
    registry = Registry()
    help = "Indicates where instances of a controller are currently running"
    running = registry.gauge("running_managed_controllers", help, ("name", "manager"))
    for name in state.controllers:
        running.set(1, name, "kube-controller-manager")
    if state.election is not None:
        help = "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 master."
        master = registry.gauge("leader_election_master_status", help, ("name",))
        master.set(1 if state.election.holds else 0, state.election.name)
    return registry.render()


async def _check_access(client: Client, request: Request) -> None:
    """Raises Unauthorized or Forbidden."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("Unauthorized")
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token.strip()},
    }
    known = (await client.create(TOKEN_REVIEWS, review)).get("status") or {}
    if not known.get("authenticated"):
        raise Unauthorized("Unauthorized")
    user = known.get("user") or {}
    asked = {"path": request.path, "verb": request.method.lower()}
    spec = {
        "user": user.get("username"),
        "groups": user.get("groups"),
        "uid": user.get("uid"),
        "nonResourceAttributes": asked,
    }
    access = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    if not ((await client.create(ACCESS_REVIEWS, access)).get("status") or {}).get("allowed"):
        raise Forbidden(f'forbidden: User "{user.get("username")}" cannot {asked["verb"]} path "{request.path}"')
