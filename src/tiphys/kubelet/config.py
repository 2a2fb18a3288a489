"""What a kubelet is told: one frozen value, made by the composition root or from flags and a file (serve.py).

Names follow the KubeletConfiguration API (kubelet.config.k8s.io/v1beta1) where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class KubeletConfig:
    """Everything that differs from node to node. Times in seconds, sizes in bytes."""

    node_name: str
    root_dir: Path
    """Pods' volumes and files: root_dir/pods/UID/..."""
    node_ips: tuple[str, ...] = ("127.0.0.1",)
    """Of each IP family that the node has, the primary one first."""
    address: str = "0.0.0.0"  # noqa: S104 - upstream's default: the API server comes from anywhere
    port: int = 10250
    """Of the node API; 0 picks one."""
    serve_api: bool = True
    """Whether to serve the node API at all."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    """The node API's certificate; None: a self-signed one is made in cert_dir."""
    cert_dir: Path | None = None
    """None: root_dir/pki."""
    client_ca: Path | None = None
    """Client certificates signed by it are let in to the node API."""
    log_dir: Path = Path("/var/log/pods")
    container_log_dir: Path | None = Path("/var/log/containers")
    """Links into log_dir, one a container; None makes none."""
    cgroup_root: str = "tiphys"
    """Parent of kubepods, relative to the mount of each controller."""
    network: str = "pods"
    """The runtime's network that pods are attached to."""
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    resolv_conf: Path | None = Path("/etc/resolv.conf")
    register_node: bool = True
    node_labels: Mapping[str, str] = field(default_factory=dict)
    register_with_taints: tuple[Mapping[str, str], ...] = ()
    max_pods: int = 110
    pod_pids_limit: int = 0
    """Processes and threads of one pod; 0: no limit."""
    capacity: Mapping[str, str] = field(default_factory=dict)
    """Said instead of what the machine has, e.g. {"cpu": "2"}: several nodes on one machine share it."""
    kernel_log: Path | None = None
    """Where the kernel tells of processes that it killed for want of memory: /dev/kmsg."""
    cpu_cfs_quota: bool = True
    """Whether limits of CPU time are enforced."""
    cpu_cfs_quota_period: float = 0.1
    memory_swap_behavior: str = ""
    """NoSwap (also "") or LimitedSwap."""
    single_process_oom_kill: bool | None = None
    """None: on cgroup v1 one process dies when memory runs out, on v2 the whole container."""
    cgroups_per_qos: bool = True
    enforce_node_allocatable: tuple[str, ...] = ("pods",)
    system_reserved_cgroup: str = ""
    kube_reserved_cgroup: str = ""
    reserved_system_cpus: str = ""
    """A list such as 0-1, instead of the number of CPUs in the reservations."""
    cpu_manager_policy: str = "none"
    cpu_manager_policy_options: Mapping[str, str] = field(default_factory=dict)
    memory_manager_policy: str = "None"
    reserved_memory: tuple[Mapping[str, Any], ...] = ()
    topology_manager_policy: str = "none"
    topology_manager_scope: str = "container"
    topology_manager_policy_options: Mapping[str, str] = field(default_factory=dict)
    memory_throttling_factor: float = 0.9
    memory_reservation_policy: str = "None"
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    """Where they differ from upstream's defaults."""
    system_reserved: Mapping[str, str] = field(default_factory=dict)
    kube_reserved: Mapping[str, str] = field(default_factory=dict)
    eviction_hard: Mapping[str, str] = field(
        default_factory=lambda: {
            "memory.available": "100Mi",
            "nodefs.available": "10%",
            "nodefs.inodesFree": "5%",
            "imagefs.available": "15%",
            "imagefs.inodesFree": "5%",
        }
    )
    """What memory.available and nodefs.available say is kept out of what is allocatable, too."""
    eviction_soft: Mapping[str, str] = field(default_factory=dict)
    eviction_soft_grace: Mapping[str, str] = field(default_factory=dict)
    eviction_minimum_reclaim: Mapping[str, str] = field(default_factory=dict)
    eviction_max_pod_grace: int = 0
    eviction_transition: float = 300.0
    memcg_notification: bool = False
    """Be told by the kernel when memory becomes scarce, besides looking every ten seconds."""
    storage_isolation: bool = True
    """Whether limits of local storage hold."""
    image_dir: Path | None = None
    container_dir: Path | None = None
    """Where images and what containers write are kept; None: on the same file system as root_dir."""
    image_gc_high: int = 85
    image_gc_low: int = 80
    """Percent of the images' file system: above the one unused images go, until the other is reached."""
    image_minimum_age: float = 120.0
    image_maximum_age: float = 0.0
    """Unused images older than this go whatever room there is; 0: never."""
    shutdown_grace: float = 0.0
    shutdown_grace_critical: float = 0.0
    shutdown_grace_by_priority: tuple[tuple[int, int], ...] = ()
    """(lowest priority, seconds) of each group of pods when the node shuts down."""
    rotate_certificates: bool = False
    """Renew the client certificate before it expires."""
    server_tls_bootstrap: bool = False
    """Have the node API's certificate signed by the cluster."""
    provider_id: str = ""
    register_schedulable: bool = True
    max_images: int = 50
    """That the node's status lists at most; -1: all."""
    status_report_frequency: float = 300.0
    lease_duration: int = 40
    status_update_frequency: float = 10.0
    static_pod_path: Path | None = None
    """Directory (or file) of static pods' manifests."""
    static_pod_url: str = ""
    static_pod_url_header: Mapping[str, str] = field(default_factory=dict)
    file_check_frequency: float = 20.0
    http_check_frequency: float = 20.0
    max_restart_period: float = 300.0
    """Seconds that a container that ends again and again waits at most: crashLoopBackOff.maxContainerRestartPeriod."""
    max_parallel_pulls: int = 0
    """0: no limit."""
    serialize_image_pulls: bool = False
    """One at a time."""
    image_verification_policy: str = "NeverVerifyPreloadedImages"
    """imagePullCredentialsVerificationPolicy: who must prove that it may use an image that is here already."""
    image_verification_allowlist: tuple[str, ...] = ()
    """preloadedImagesVerificationAllowlist, for NeverVerifyAllowlistedImages."""
    credential_providers: Path | None = None
    """CredentialProviderConfig, a file or a directory."""
    credential_provider_bin_dir: Path | None = None
    registry_qps: float = 0.0
    """Pulls a second on average, 0: no limit; more than `registry_burst` at once fail."""
    registry_burst: int = 10
    change_detection: str = "Watch"
    """Of ConfigMaps and Secrets: Watch, Cache or Get."""
    sync_frequency: float = 60.0
    memory_volumes: bool = True
    """Whether Secrets, tokens and emptyDirs of medium Memory are kept in memory: needs the right to mount."""
    seccomp_default: bool = True
    """Whether containers that ask for no seccomp profile get the runtime's default one."""
    userns_ids_per_pod: int = 65536
    """How many IDs a pod with a user namespace of its own gets: a multiple of 65536."""
    userns_claims: Path = Path("/run/tiphys/userns")
    """Where the nodes of this machine note which IDs they have given to which pod."""
    container_runtime_endpoint: str = ""
    """Of a CRI runtime that is driven in the place of our own, e.g. unix:///run/containerd/containerd.sock."""
    image_service_endpoint: str = ""
    """If that is another."""
    runtime_handlers: Mapping[str, str] = field(default_factory=dict)
    """OCI runtimes besides those on PATH: name -> program with options; "" takes one away."""
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    """Names or patterns that end in *, besides the safe ones."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration file that nothing here reads; shown by /configz."""

    @property
    def pods_dir(self) -> Path:
        return self.root_dir / "pods"

    def pod_dir(self, uid: str) -> Path:
        """Where volumes and files of a pod are."""
        return self.pods_dir / uid

    def pod_log_dir(self, namespace: str, name: str, uid: str) -> Path:
        return self.log_dir / f"{namespace}_{name}_{uid}"

    def container_log(self, namespace: str, name: str, uid: str, container: str, attempt: int) -> Path:
        """The file that one run of a container writes."""
        return self.pod_log_dir(namespace, name, uid) / container / f"{attempt}.log"
