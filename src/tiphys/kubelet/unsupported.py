"""What a pod may ask for and this node does not have: said aloud, with the field's name, never passed over. Pure."""

from __future__ import annotations

from tiphys.kubelet.podspec import Object, all_containers
from tiphys.kubelet.security import apparmor_profile, effective


def container_refusal(pod: Object, container: Object, selinux: bool) -> str:
    """Why this container cannot be as asked, or "". Without SELinux on the host its options mean nothing."""
    if selinux and effective(pod, container).get("seLinuxOptions"):
        return "securityContext.seLinuxOptions: not supported by this node"
    return ""


def apparmor_refusal(pod: Object, enabled: bool) -> str:
    """Why the pod's AppArmor profiles cannot be enforced, or ""."""
    profiles = [apparmor_profile(pod, container) for container in all_containers(pod)]
    if not any(profile.get("type") in ("RuntimeDefault", "Localhost") for profile in profiles):
        return ""
    if not enabled:
        return "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    for profile in profiles:
        if profile.get("type") == "Localhost" and not str(profile.get("localhostProfile") or "").strip():
            return 'Cannot enforce AppArmor: invalid empty AppArmor profile name: ""'
    return ""
