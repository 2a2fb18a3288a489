"""ServiceAccounts, their tokens and certificates, signing requests and access reviews, as the suite asks for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tiphys.base.identity import User
from tiphys.client.resources import CONFIG_MAPS, PODS
from tiphys.testing.cluster import ADMIN

Play = Callable[..., None]
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
REVIEWS = "/apis/authorization.k8s.io/v1"


def account(name: str, **fields: Any) -> dict[str, Any]:
    meta = {"name": name, "labels": {"purpose": name}}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, **fields}


def pod(name: str, account_name: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "busybox"}]
    meta = {"name": name, "namespace": "default"}
    spec = {"containers": containers, "serviceAccountName": account_name, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def mounts(obj: dict[str, Any]) -> list[str]:
    return [one["mountPath"] for one in obj["spec"]["containers"][0].get("volumeMounts") or ()]


def test_an_account_lives_through_every_verb(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", ACCOUNTS, account("robot"))
        listed = await world.ok("GET", "/api/v1/serviceaccounts?labelSelector=purpose=robot")
        assert [item["metadata"]["name"] for item in listed["items"]] == ["robot"]
        patched = await world.patch(f"{ACCOUNTS}/robot", {"automountServiceAccountToken": False})
        assert patched["automountServiceAccountToken"] is False
        patched["automountServiceAccountToken"] = True
        updated = await world.ok("PUT", f"{ACCOUNTS}/robot", patched)
        assert updated["automountServiceAccountToken"] is True
        await world.ok("DELETE", f"{ACCOUNTS}?labelSelector=purpose=robot")
        assert (await world.ask("GET", f"{ACCOUNTS}/robot"))["code"] == 404

    play(scenario)


def test_a_token_is_made_and_found_good_by_a_review(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await world.ok("POST", ACCOUNTS, account("robot"))
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = (await world.ok("POST", f"{ACCOUNTS}/robot/token", request))["status"]["token"]
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = (await world.ok("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review))["status"]
        assert status["authenticated"] is True
        user = status["user"]
        assert user["username"] == "system:serviceaccount:default:robot"
        assert user["uid"] == made["metadata"]["uid"]
        assert user["groups"] == [
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated",
        ]
        await world.ok("DELETE", f"{ACCOUNTS}/robot")
        gone = (await world.ok("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review))["status"]
        assert gone.get("authenticated", False) is False

    play(scenario)


def test_pods_mount_the_token_unless_they_or_their_account_opt_out(play: Play) -> None:
    async def scenario(world: Any) -> None:
        wishes: dict[str, dict[str, Any]] = {"default-wish": {}, "yes": {"automountServiceAccountToken": True}}
        wishes["no"] = {"automountServiceAccountToken": False}
        for name, fields in wishes.items():
            await world.ok("POST", ACCOUNTS, account(name, **fields))
        mounted = set()
        for name in wishes:
            for pod_name, spec in wishes.items():
                body = pod(f"{name}-{pod_name}", name, **spec)
                made = await world.ok("POST", "/api/v1/namespaces/default/pods", body)
                if "/var/run/secrets/kubernetes.io/serviceaccount" in mounts(made):
                    mounted.add((name, pod_name))
        every = {(one, other) for one in wishes for other in wishes}
        assert every - mounted == {
            ("no", "default-wish"),
            ("default-wish", "no"),
            ("yes", "no"),
            ("no", "no"),
        }

    play(scenario)


def test_a_mounted_token_is_projected_with_the_certificate_and_the_namespace(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await world.ok("POST", "/api/v1/namespaces/default/pods", pod("p", "default"))
        [volume] = made["spec"]["volumes"]
        sources = volume["projected"]["sources"]
        assert sources[0]["serviceAccountToken"] == {"expirationSeconds": 3607, "path": "token"}
        assert sources[1]["configMap"]["name"] == "kube-root-ca.crt"
        assert sources[2]["downwardAPI"]["items"][0]["path"] == "namespace"
        await world.cluster.wait(PODS, "default", "p", lambda obj: obj["status"]["phase"] == "Running")

    play(scenario)


def test_the_root_certificate_comes_back_when_it_is_deleted_or_changed(play: Play) -> None:
    async def scenario(world: Any) -> None:
        path = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"
        held = await world.cluster.wait(CONFIG_MAPS, "default", "kube-root-ca.crt", timeout=10)
        await world.ok("DELETE", path)
        back = await world.cluster.wait(CONFIG_MAPS, "default", "kube-root-ca.crt", timeout=10)
        assert back["data"] == held["data"]
        await world.ok("PUT", path, {**back, "data": {"ca.crt": "something else"}})

        def restored(obj: Any) -> bool:
            return bool(obj["data"] == held["data"])

        await world.cluster.wait(CONFIG_MAPS, "default", "kube-root-ca.crt", restored, timeout=10)

    play(scenario)


def signing_request(name: str, signer: str = "example.com/e2e") -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tester")])
    built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = base64.b64encode(built.public_bytes(serialization.Encoding.PEM)).decode()
    spec = {"request": pem, "signerName": signer, "usages": ["digital signature", "client auth"]}
    meta = {"name": name, "labels": {"purpose": "conformance"}}
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": meta,
        "spec": spec,
    }


def test_a_signing_request_lives_through_every_verb_its_approval_and_its_status(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for name in ("one", "two"):
            await world.ok("POST", REQUESTS, signing_request(name))
        listed = await world.ok("GET", f"{REQUESTS}?labelSelector=purpose=conformance")
        assert len(listed["items"]) == 2
        assert {item["spec"]["username"] for item in listed["items"]} == {ADMIN.name}
        patched = await world.patch(f"{REQUESTS}/one", {"metadata": {"annotations": {"patched": "true"}}})
        patched["metadata"]["annotations"]["updated"] = "true"
        await world.ok("PUT", f"{REQUESTS}/one", patched)

        approval = f"{REQUESTS}/one/approval"
        condition = {"type": "Approved", "status": "True", "reason": "E2E", "message": "Set from a test"}
        approved = await world.patch(
            approval, {"metadata": {"annotations": {"p": "1"}}, "status": {"conditions": [condition]}}
        )
        assert [one["type"] for one in approved["status"]["conditions"]] == ["Approved"]
        shown = await world.ok("GET", approval)
        shown["status"]["conditions"][0]["message"] = "Updated"
        await world.ok("PUT", approval, shown)

        status = f"{REQUESTS}/one/status"
        failed = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test"}
        conditions = [*(await world.ok("GET", status))["status"]["conditions"], failed]
        changed = await world.patch(status, {"status": {"conditions": conditions}})
        assert [one["type"] for one in changed["status"]["conditions"]] == ["Approved", "StatusUpdate"]
        refused = await world.http(
            "PATCH", approval, {"status": {"conditions": []}}, content_type="application/merge-patch+json"
        )
        assert refused.status == 422

        await world.ok("DELETE", f"{REQUESTS}/one")
        await world.ok("DELETE", f"{REQUESTS}?labelSelector=purpose=conformance")
        assert (await world.ok("GET", f"{REQUESTS}?labelSelector=purpose=conformance"))["items"] == []

    play(scenario, controllers="", nodes=0)


def test_reviews_of_access_agree_for_oneself_and_for_others(play: Play) -> None:
    async def scenario(world: Any) -> None:
        robot = User("system:serviceaccount:default:robot", groups=("system:authenticated",))
        attributes = {"verb": "list", "resource": "configmaps", "namespace": "default"}
        about = {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
        spec = {"resourceAttributes": attributes, "user": robot.name, "groups": list(robot.groups)}
        before = await world.ok("POST", f"{REVIEWS}/subjectaccessreviews", {**about, "spec": spec})
        assert before["status"]["allowed"] is False
        assert (await world.http("GET", "/api/v1/namespaces/default/configmaps", user=robot)).status == 403

        role: dict[str, Any] = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "see"},
        }
        role["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
        role["subjects"] = [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]
        await world.ok("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", role)
        await world.clock.sleep(1)
        after = await world.ok("POST", f"{REVIEWS}/subjectaccessreviews", {**about, "spec": spec})
        local = await world.ok(
            "POST",
            f"{REVIEWS}/namespaces/default/localsubjectaccessreviews",
            {**about, "kind": "LocalSubjectAccessReview", "metadata": {"namespace": "default"}, "spec": spec},
        )
        own = await world.ok(
            "POST",
            f"{REVIEWS}/selfsubjectaccessreviews",
            {**about, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}},
            user=robot,
        )
        assert [one["status"]["allowed"] for one in (after, local, own)] == [True, True, True]
        assert (await world.http("GET", "/api/v1/namespaces/default/configmaps", user=robot)).status == 200

    play(scenario)


def test_the_issuer_describes_itself_and_shows_the_keys_of_its_tokens(play: Play) -> None:
    async def scenario(world: Any) -> None:
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = (await world.ok("POST", f"{ACCOUNTS}/default/token", request))["status"]["token"]
        head, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
        found = await world.ok("GET", "/.well-known/openid-configuration")
        assert found["issuer"] == claims["iss"]
        assert found["jwks_uri"].endswith("/openid/v1/jwks")
        assert head["alg"] in found["id_token_signing_alg_values_supported"]
        keys = (await world.ok("GET", "/openid/v1/jwks"))["keys"]
        [key] = [one for one in keys if one["kid"] == head["kid"]]
        assert (key["use"], key["alg"]) == ("sig", head["alg"])

    play(scenario)
