"""Messages and methods of the CRI, v1: those that the client speaks. Source: the CRI API reference (k8s.io/cri-api)."""

from __future__ import annotations

from tiphys.base.grpc.messages import BOOL, ENUM, INT32, INT64, RAW, STRING, UINT32, UINT64, MapOf, Message, Repeated
from tiphys.base.grpc.types import Method, methods

SOCKETS = ("unix:///run/containerd/containerd.sock", "unix:///var/run/crio/crio.sock")
NOTHING = Message()
_NUMBER = Message(value=(1, INT64))
_COUNT = Message(value=(1, UINT64))
_TABLE = MapOf(STRING)
_STRINGS = Repeated(STRING)

POD, CONTAINER, NODE, TARGET = range(4)
"""NamespaceMode."""
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = range(3)
"""SecurityProfile.ProfileType."""
CREATED, RUNNING, EXITED, UNKNOWN = range(4)
"""ContainerState."""
READY = 0
"""PodSandboxState."""

_ID_MAPPING = Message(host_id=(1, UINT32), container_id=(2, UINT32), length=(3, UINT32))
_USERS = Message(mode=(1, ENUM), uids=(2, Repeated(_ID_MAPPING)), gids=(3, Repeated(_ID_MAPPING)))
_NAMESPACES = Message(
    network=(1, ENUM), pid=(2, ENUM), ipc=(3, ENUM), target_id=(4, STRING), userns_options=(5, _USERS)
)
_PROFILE = Message(profile_type=(1, ENUM), localhost_ref=(2, STRING))
IMAGE_SPEC = Message(
    image=(1, STRING), annotations=(2, _TABLE), user_specified_image=(18, STRING), runtime_handler=(19, STRING)
)
_MOUNT = Message(
    container_path=(1, STRING),
    host_path=(2, STRING),
    readonly=(3, BOOL),
    selinux_relabel=(4, BOOL),
    propagation=(5, ENUM),
    uid_mappings=(6, Repeated(_ID_MAPPING)),
    gid_mappings=(7, Repeated(_ID_MAPPING)),
    recursive_read_only=(8, BOOL),
    image=(9, IMAGE_SPEC),
    image_sub_path=(10, STRING),
)
_HUGE = Message(page_size=(1, STRING), limit=(2, UINT64))
RESOURCES = Message(
    cpu_period=(1, INT64),
    cpu_quota=(2, INT64),
    cpu_shares=(3, INT64),
    memory_limit_in_bytes=(4, INT64),
    oom_score_adj=(5, INT64),
    cpuset_cpus=(6, STRING),
    cpuset_mems=(7, STRING),
    hugepage_limits=(8, Repeated(_HUGE)),
    unified=(9, _TABLE),
    memory_swap_limit_in_bytes=(10, INT64),
)

# --- sandboxes

_SANDBOX_META = Message(name=(1, STRING), uid=(2, STRING), namespace=(3, STRING), attempt=(4, UINT32))
_SANDBOX_SECURITY = Message(
    namespace_options=(1, _NAMESPACES),
    privileged=(6, BOOL),
    seccomp=(9, _PROFILE),
    supplemental_groups_policy=(11, ENUM),
)
_SANDBOX_LINUX = Message(
    cgroup_parent=(1, STRING), security_context=(2, _SANDBOX_SECURITY), sysctls=(3, _TABLE), resources=(5, RESOURCES)
)
_PORT = Message(protocol=(1, ENUM), container_port=(2, INT32), host_port=(3, INT32), host_ip=(4, STRING))
SANDBOX_CONFIG = Message(
    metadata=(1, _SANDBOX_META),
    hostname=(2, STRING),
    log_directory=(3, STRING),
    port_mappings=(5, Repeated(_PORT)),
    labels=(6, _TABLE),
    annotations=(7, _TABLE),
    linux=(8, _SANDBOX_LINUX),
)
_NETWORK = Message(ip=(1, STRING), additional_ips=(2, Repeated(Message(ip=(1, STRING)))))
SANDBOX_STATUS = Message(
    id=(1, STRING),
    metadata=(2, _SANDBOX_META),
    state=(3, ENUM),
    created_at=(4, INT64),
    network=(5, _NETWORK),
    labels=(7, _TABLE),
    annotations=(8, _TABLE),
    runtime_handler=(9, STRING),
)
_SANDBOX = Message(
    id=(1, STRING),
    metadata=(2, _SANDBOX_META),
    state=(3, ENUM),
    created_at=(4, INT64),
    labels=(5, _TABLE),
    annotations=(6, _TABLE),
)
_SANDBOX_FILTER = Message(id=(1, STRING), label_selector=(3, _TABLE))

# --- containers

_CONTAINER_META = Message(name=(1, STRING), attempt=(2, UINT32))
_CAPABILITIES = Message(add_capabilities=(1, _STRINGS), drop_capabilities=(2, _STRINGS))
_SECURITY = Message(
    capabilities=(1, _CAPABILITIES),
    privileged=(2, BOOL),
    namespace_options=(3, _NAMESPACES),
    run_as_user=(5, _NUMBER),
    run_as_username=(6, STRING),
    readonly_rootfs=(7, BOOL),
    supplemental_groups=(8, Repeated(INT64)),
    no_new_privs=(11, BOOL),
    run_as_group=(12, _NUMBER),
    masked_paths=(13, _STRINGS),
    readonly_paths=(14, _STRINGS),
    seccomp=(15, _PROFILE),
    apparmor=(16, _PROFILE),
    supplemental_groups_policy=(17, ENUM),
)
_DEVICE = Message(container_path=(1, STRING), host_path=(2, STRING), permissions=(3, STRING))
CONTAINER_CONFIG = Message(
    metadata=(1, _CONTAINER_META),
    image=(2, IMAGE_SPEC),
    command=(3, _STRINGS),
    args=(4, _STRINGS),
    working_dir=(5, STRING),
    envs=(6, Repeated(Message(key=(1, STRING), value=(2, RAW)))),
    mounts=(7, Repeated(_MOUNT)),
    devices=(8, Repeated(_DEVICE)),
    labels=(9, _TABLE),
    annotations=(10, _TABLE),
    log_path=(11, STRING),
    stdin=(12, BOOL),
    stdin_once=(13, BOOL),
    tty=(14, BOOL),
    linux=(15, Message(resources=(1, RESOURCES), security_context=(2, _SECURITY))),
    stop_signal=(18, ENUM),
)
_USER = Message(uid=(1, INT64), gid=(2, INT64), supplemental_groups=(3, Repeated(INT64)))
CONTAINER_STATUS = Message(
    id=(1, STRING),
    metadata=(2, _CONTAINER_META),
    state=(3, ENUM),
    created_at=(4, INT64),
    started_at=(5, INT64),
    finished_at=(6, INT64),
    exit_code=(7, INT32),
    image=(8, IMAGE_SPEC),
    image_ref=(9, STRING),
    reason=(10, STRING),
    message=(11, STRING),
    labels=(12, _TABLE),
    annotations=(13, _TABLE),
    log_path=(15, STRING),
    user=(18, Message(linux=(1, _USER))),
)
_CONTAINER = Message(
    id=(1, STRING),
    pod_sandbox_id=(2, STRING),
    metadata=(3, _CONTAINER_META),
    state=(6, ENUM),
    created_at=(7, INT64),
    labels=(8, _TABLE),
    annotations=(9, _TABLE),
)
_CONTAINER_FILTER = Message(id=(1, STRING), pod_sandbox_id=(3, STRING), label_selector=(4, _TABLE))

# --- statistics

_CPU = Message(timestamp=(1, INT64), usage_core_nano_seconds=(2, _COUNT), usage_nano_cores=(3, _COUNT))
_MEMORY = Message(
    timestamp=(1, INT64),
    working_set_bytes=(2, _COUNT),
    available_bytes=(3, _COUNT),
    usage_bytes=(4, _COUNT),
    rss_bytes=(5, _COUNT),
    page_faults=(6, _COUNT),
    major_page_faults=(7, _COUNT),
)
_FILES = Message(timestamp=(1, INT64), used_bytes=(3, _COUNT), inodes_used=(4, _COUNT))
CONTAINER_STATS = Message(cpu=(2, _CPU), memory=(3, _MEMORY), writable_layer=(4, _FILES))

# --- the runtime and its images

_CONDITION = Message(type=(1, STRING), status=(2, BOOL), reason=(3, STRING), message=(4, STRING))
_FEATURES = Message(recursive_read_only_mounts=(1, BOOL), user_namespaces=(2, BOOL))
_STATUS = Message(
    status=(1, Message(conditions=(1, Repeated(_CONDITION)))),
    info=(2, _TABLE),
    runtime_handlers=(3, Repeated(Message(name=(1, STRING), features=(2, _FEATURES)))),
)
IMAGE = Message(
    id=(1, STRING),
    repo_tags=(2, _STRINGS),
    repo_digests=(3, _STRINGS),
    size=(4, UINT64),
    uid=(5, _NUMBER),
    username=(6, STRING),
    pinned=(8, BOOL),
)
_AUTH = Message(username=(1, STRING), password=(2, STRING), identity_token=(5, STRING), registry_token=(6, STRING))
_EVENT = Message(container_id=(1, STRING), container_event_type=(2, ENUM), created_at=(3, INT64))

_ID = Message(container_id=(1, STRING))
_BOX = Message(pod_sandbox_id=(1, STRING))
_URL = Message(url=(1, STRING))


def _streams(first: int, *names: str) -> dict[str, tuple[int, str]]:
    return {name: (number, BOOL) for number, name in enumerate(names, first)}


RUNTIME = methods(
    "runtime.v1.RuntimeService",
    Version=(
        Message(version=(1, STRING)),
        Message(version=(1, STRING), runtime_name=(2, STRING), runtime_version=(3, STRING)),
    ),
    Status=(Message(verbose=(1, BOOL)), _STATUS),
    RuntimeConfig=(NOTHING, Message(linux=(1, Message(cgroup_driver=(1, ENUM))))),
    UpdateRuntimeConfig=(
        Message(runtime_config=(1, Message(network_config=(1, Message(pod_cidr=(1, STRING)))))), NOTHING,
    ),
    RunPodSandbox=(
        Message(config=(1, SANDBOX_CONFIG), runtime_handler=(2, STRING)), Message(pod_sandbox_id=(1, STRING)),
    ),
    StopPodSandbox=(_BOX, NOTHING),
    RemovePodSandbox=(_BOX, NOTHING),
    PodSandboxStatus=(
        Message(pod_sandbox_id=(1, STRING), verbose=(2, BOOL)), Message(status=(1, SANDBOX_STATUS), info=(2, _TABLE)),
    ),
    ListPodSandbox=(Message(filter=(1, _SANDBOX_FILTER)), Message(items=(1, Repeated(_SANDBOX)))),
    CreateContainer=(
        Message(pod_sandbox_id=(1, STRING), config=(2, CONTAINER_CONFIG), sandbox_config=(3, SANDBOX_CONFIG)), _ID,
    ),
    StartContainer=(_ID, NOTHING),
    StopContainer=(Message(container_id=(1, STRING), timeout=(2, INT64)), NOTHING),
    RemoveContainer=(_ID, NOTHING),
    ListContainers=(Message(filter=(1, _CONTAINER_FILTER)), Message(containers=(1, Repeated(_CONTAINER)))),
    ContainerStatus=(
        Message(container_id=(1, STRING), verbose=(2, BOOL)), Message(status=(1, CONTAINER_STATUS), info=(2, _TABLE)),
    ),
    UpdateContainerResources=(Message(container_id=(1, STRING), linux=(2, RESOURCES)), NOTHING),
    ReopenContainerLog=(_ID, NOTHING),
    ExecSync=(
        Message(container_id=(1, STRING), cmd=(2, _STRINGS), timeout=(3, INT64)),
        Message(stdout=(1, RAW), stderr=(2, RAW), exit_code=(3, INT32)),
    ),
    Exec=(
        Message(container_id=(1, STRING), cmd=(2, _STRINGS), **_streams(3, "tty", "stdin", "stdout", "stderr")), _URL,
    ),
    Attach=(
        Message(container_id=(1, STRING), **_streams(2, "stdin", "tty", "stdout", "stderr")), _URL,
    ),
    PortForward=(Message(pod_sandbox_id=(1, STRING), port=(2, Repeated(INT32))), _URL),
    ContainerStats=(_ID, Message(stats=(1, CONTAINER_STATS))),
)  # fmt: skip
EVENTS = Method("/runtime.v1.RuntimeService/GetContainerEvents", NOTHING, _EVENT, streaming=True)

_IMAGE_REQUEST = Message(image=(1, IMAGE_SPEC))
IMAGES = methods(
    "runtime.v1.ImageService",
    ListImages=(Message(filter=(1, _IMAGE_REQUEST)), Message(images=(1, Repeated(IMAGE)))),
    ImageStatus=(Message(image=(1, IMAGE_SPEC), verbose=(2, BOOL)), Message(image=(1, IMAGE), info=(2, _TABLE))),
    PullImage=(Message(image=(1, IMAGE_SPEC), auth=(2, _AUTH)), Message(image_ref=(1, STRING))),
    RemoveImage=(_IMAGE_REQUEST, NOTHING),
)
