"""Certificate signing requests, tokens in Secrets and bootstrap tokens, on virtual time."""

from __future__ import annotations

import base64
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tiphys.apiserver.authn.certificate import user_of
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.certificates import ClientVerifier
from tiphys.base.errors import Forbidden, NotFound
from tiphys.base.identity import User
from tiphys.base.tls import Authority
from tiphys.client.local import LocalClient
from tiphys.client.resources import SECRETS, SERVICE_ACCOUNTS
from tiphys.controllers.csr_rules import CERTIFICATE_SIGNING_REQUESTS, CLIENT, KUBELET_CLIENT, SIGNERS
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

DAY = 86400


def play(scenario: Callable[[Cluster, Authority], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()
    authority = Authority.create("cluster", clock=clock)
    settings = {
        "cluster-signing": dict.fromkeys(SIGNERS, (authority.certificate, authority.pair.key)),
        "legacy-service-account-token-clean-up-period": 2 * DAY,
    }

    async def main() -> None:
        async with Cluster(clock, settings=settings, **options) as cluster:
            await cluster.wait(SERVICE_ACCOUNTS, "default", "default", timeout=10)
            await scenario(cluster, authority)

    try:
        clock.run(main())
    finally:
        clock.close()


def pkcs10(common_name: str, *groups: str) -> str:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def request(name: str, signer: str, encoded: str, usages: Sequence[str] = ("client auth",), **spec: Any) -> Any:
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {"request": encoded, "signerName": signer, "usages": list(usages), **spec},
    }


async def approve(cluster: Cluster, held: Any) -> None:
    condition = {"type": "Approved", "status": "True", "reason": "x", "message": "y"}
    new = {**held, "status": {"conditions": [condition]}}
    await cluster.client.update(CERTIFICATE_SIGNING_REQUESTS, new, subresource="approval")


def certificate(held: Any) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(held["status"]["certificate"]))


def test_an_approved_request_becomes_a_certificate_that_logs_in() -> None:
    async def scenario(cluster: Cluster, authority: Authority) -> None:
        wanted = request("jane", CLIENT, pkcs10("jane", "devs"), expirationSeconds=3600)
        await approve(cluster, await cluster.client.create(CERTIFICATE_SIGNING_REQUESTS, wanted))
        held = await cluster.wait(
            CERTIFICATE_SIGNING_REQUESTS, "", "jane", lambda each: "certificate" in each.get("status", {}), 10
        )
        issued = certificate(held)
        der = issued.public_bytes(serialization.Encoding.DER)
        ClientVerifier(authority.certificate).verify((der,)).check(cluster.clock.time())
        user = user_of(der)
        assert user is not None
        assert (user.name, user.groups) == ("jane", ("devs", "system:authenticated"))
        life = issued.not_valid_after_utc - issued.not_valid_before_utc
        assert life.total_seconds() == 3600 + 300
        assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    play(scenario)


def test_what_the_signer_does_not_sign_is_marked_as_failed() -> None:
    async def scenario(cluster: Cluster, authority: Authority) -> None:
        wanted = request("bad", CLIENT, pkcs10("jane"), ["server auth"])
        await approve(cluster, await cluster.client.create(CERTIFICATE_SIGNING_REQUESTS, wanted))
        held = await cluster.wait(
            CERTIFICATE_SIGNING_REQUESTS, "", "bad", lambda each: len(each["status"].get("conditions", ())) > 1, 10
        )
        failed = held["status"]["conditions"][1]
        assert (failed["type"], failed["reason"]) == ("Failed", "SignerValidationFailure")
        assert failed["message"] == "invalid usage for client certificate: server auth"
        assert "certificate" not in held["status"]

    play(scenario)


def test_nobody_becomes_a_master_by_a_request() -> None:
    async def scenario(cluster: Cluster, authority: Authority) -> None:
        with pytest.raises(Forbidden, match="system:masters group is not allowed"):
            await cluster.client.create(
                CERTIFICATE_SIGNING_REQUESTS, request("m", CLIENT, pkcs10("jane", "system:masters"))
            )

    play(scenario)


def test_a_node_renews_its_own_certificate_and_gets_no_other_nodes() -> None:
    async def scenario(cluster: Cluster, authority: Authority) -> None:
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "renewal"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
        }
        await cluster.client.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        user = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
        node = LocalClient(cluster.server.handler, user)
        usages = ("client auth", "digital signature")
        for name in ("n1", "n2"):
            wanted = request(name, KUBELET_CLIENT, pkcs10(f"system:node:{name}", "system:nodes"), usages)
            if name == "n2":
                with pytest.raises(Forbidden, match="can only create a node CSR with CN=system:node:n1"):
                    await node.create(CERTIFICATE_SIGNING_REQUESTS, wanted)
                continue
            await node.create(CERTIFICATE_SIGNING_REQUESTS, wanted)
            held = await cluster.wait(
                CERTIFICATE_SIGNING_REQUESTS, "", name, lambda each: "certificate" in each.get("status", {}), 10
            )
            assert held["status"]["conditions"][0]["reason"] == "AutoApproved"

    play(scenario)


def test_requests_go_a_day_after_nobody_looked_and_an_hour_after_the_certificate() -> None:
    async def scenario(cluster: Cluster, authority: Authority) -> None:
        for name in ("waits", "done"):
            made = await cluster.client.create(CERTIFICATE_SIGNING_REQUESTS, request(name, CLIENT, pkcs10("jane")))
            if name == "done":
                await approve(cluster, made)
        await cluster.clock.sleep(3500)
        await cluster.client.get(CERTIFICATE_SIGNING_REQUESTS, "done")
        await cluster.wait_gone(CERTIFICATE_SIGNING_REQUESTS, "", "done", 300)
        await cluster.client.get(CERTIFICATE_SIGNING_REQUESTS, "waits")
        await cluster.wait_gone(CERTIFICATE_SIGNING_REQUESTS, "", "waits", 24 * 3600)

    play(scenario)


def test_a_generated_token_that_nobody_uses_is_switched_off_and_then_deleted() -> None:
    invalid = "kubernetes.io/legacy-token-invalid-since"

    async def scenario(cluster: Cluster, authority: Authority) -> None:
        account: Any = await cluster.client.get(SERVICE_ACCOUNTS, "default", "default")
        await cluster.client.update(SERVICE_ACCOUNTS, {**account, "secrets": [{"name": "generated"}]})
        for name in ("generated", "by-hand"):
            notes = {"kubernetes.io/service-account.name": "default"}
            meta = {"name": name, "namespace": "default", "annotations": notes}
            kind = "kubernetes.io/service-account-token"
            await cluster.client.create(
                SECRETS,
                {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": meta, "data": {"token": "eA=="}},
            )
        await cluster.clock.sleep(2.5 * DAY)
        assert invalid not in (await cluster.client.get(SECRETS, "generated", "default"))["metadata"].get("labels", {})
        await cluster.clock.sleep(2 * DAY)
        assert (await cluster.client.get(SECRETS, "generated", "default"))["metadata"]["labels"][invalid]
        await cluster.clock.sleep(4 * DAY)
        with pytest.raises(NotFound):
            await cluster.client.get(SECRETS, "generated", "default")
        assert invalid not in (await cluster.client.get(SECRETS, "by-hand", "default"))["metadata"].get("labels", {})

    some = ["serviceaccount-controller", "legacy-serviceaccount-token-cleaner-controller"]
    play(scenario, controllers=some, nodes=0, config=ApiServerConfig(fairness=False))
