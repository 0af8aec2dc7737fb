"""Where tasks run: a profile says what each asks the cluster for, and never what it computes.

The platform wires no resource that is a pipeline parameter inside a loop or a condition: one pipeline is compiled per
profile instead.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints

from hone.config import Settings, checked
from hone.errors import UserError
from hone.kubeflow.components import COMPONENTS, component
from hone.kubeflow.trainjob import Machines
from hone.settings import overlay, read_yaml

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MIB = {"Mi": 1, "Gi": 1 << 10, "Ti": 1 << 20}
DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
USER = 1001
SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|credential|private_?key|api_?key|access_key)")
SECRET_VALUE = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\b(hf|ghp|glpat|sk)[_-][0-9A-Za-z_-]{16,}"
)
HERE = Path("pipelines")
CA_FOLDER = "/etc/hone/ca"
WAITING: dict[str, Any] = {
    "cpu": "1", "memory": "4Gi", "gpus": 0, "shm": "64Mi", "scratch": "50Gi", "node_selector": {}, "tolerations": (),
}  # fmt: skip
"""What a task asks for that only waits for other machines: room to tell what it reads by content."""
JOIN = "join"
"""What by_task calls the tasks that join the shares of a sharded stage: they move no data and need no GPU."""

Size = Annotated[str, StringConstraints(pattern=r"^\d+(Mi|Gi|Ti)$")]
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*[smhd]$")]


class Toleration(Settings):
    """A taint that tasks put up with."""

    key: str
    """The taint's key."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Exists takes any value."""
    value: str = ""
    """The value that Equal compares with."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """The effect that is put up with."""


class Place(Settings):
    """What one task asks for."""

    image: str = ""
    """The image to run in, where it is not the stage's own: cpu, train or vllm."""
    cpu: str = Field(default="1", pattern=r"^\d+(\.\d+)?$")
    """Cores, requested and not limited."""
    memory: Size = "2Gi"
    """Memory, requested and limited to the same."""
    scratch: Size = "10Gi"
    """Disk for temporary files, mounted at /tmp; a task that writes more is evicted."""
    shm: Size = "64Mi"
    """Shared memory at /dev/shm; it counts as memory of the task."""
    gpus: int = Field(default=0, ge=0)
    """GPUs, or slices of one."""
    gpu_type: str = "nvidia.com/gpu"
    """The resource that is counted, such as nvidia.com/mig-3g.40gb."""
    gpu_gib: int = Field(default=0, ge=0)
    """Memory of each, in GiB: preflight checks it."""
    nodes: int = Field(default=1, ge=1)
    """Machines that train together, for distill: above 1 the task starts a TrainJob (Kubeflow Trainer) in which each
    machine has what is asked for here, and waits for it itself on one core."""
    timeout: Duration = "1h"
    """The task is stopped after this long."""
    retries: int = Field(default=2, ge=0)
    """How often the platform starts the task again after it failed or, in its stock setting since 2.17, was lost."""
    node_selector: dict[str, str] = Field(default={})
    """Labels that the node must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the task puts up with."""


class SecretKeys(Settings):
    """Environment variables from a Secret or ConfigMap."""

    name: str
    """The name of the Secret or ConfigMap."""
    env: dict[str, str]
    """Key to environment variable."""
    optional: bool = False
    """Whether tasks start without it."""


class Cache(Settings):
    """A volume that holds models, filled beforehand; mounted by every task, since their content names its result."""

    claim: str = ""
    """The PersistentVolumeClaim; empty for none."""
    path: str = "/models"
    """Where it is mounted."""


class Profile(Settings):
    """A cluster, or a part of one, as tasks see it."""

    name: str
    """The file's name without .yaml."""
    shards: int = Field(default=1, ge=1, le=32)
    """Into how many tasks a sharded stage is cut. Every task costs driver pods: few fat ones are best."""
    parallel: int = Field(default=0, ge=0)
    """How many of them run at once; 0 for all."""
    domains: int = Field(default=4, ge=0)
    """How many domains of specialize_many run at once; 0 for all."""
    digests: bool = True
    """Refuse images that are not named by digest."""
    images: dict[str, str] = Field(default={})
    """Image to its address, such as registry.example/hone-cpu@sha256:…; given as --images at most places."""
    every: Place = Place()
    """What every task asks for."""
    by_image: dict[str, dict[str, Any]] = Field(default={})
    """Laid over that for the tasks of one image: cpu, train, vllm."""
    by_task: dict[str, dict[str, Any]] = Field(default={})
    """Laid over both for one task."""
    queue: str = ""
    """The Kueue LocalQueue that admits the tasks; empty for none."""
    queueing: Duration = "7d"
    """How long a task may wait for the cluster, all its tries together: its last retry must begin before this and its
    tries' own timeouts are over."""
    security_context: bool = True
    """Ask for user and group 1001 and never root. False for Kubeflow Pipelines 2.14 and 2.15, which refuse a run that
    names a field they do not know; the image's own user is the same."""
    labels: dict[str, str] = Field(default={})
    """Labels of every pod, for a NetworkPolicy to choose by."""
    env: dict[str, str] = Field(default={})
    """Environment variables of every task; a key or password comes from `secrets`."""
    secrets: tuple[SecretKeys, ...] = ()
    """Secrets that every task gets as environment variables."""
    config_maps: tuple[SecretKeys, ...] = ()
    """ConfigMaps that every task gets as environment variables."""
    ca: str = ""
    """The ConfigMap whose key ca.crt holds the certificate authorities to trust; empty for the image's own."""
    ca_optional: bool = False
    """Whether tasks start without it; AWS_CA_BUNDLE and SSL_CERT_FILE then come from `config_maps`."""
    model_cache: Cache = Cache()
    """The volume of models."""

    def place(self, name: str) -> Place:
        """What a task asks for. Raises UserError naming the key."""
        base = {key: getattr(self.every, key) for key in self.every.model_fields_set}
        own = self.by_task.get(name, {})
        image = str(own.get("image") or ("cpu" if name == JOIN else component(name).image))
        merged = overlay(overlay(base, self.by_image.get(image, {})), {**own, "image": image})
        return checked(Place, merged, f"profile {self.name}", name)

    def machines(self, name: str) -> str:
        """The machines that train together, as JSON for the task; empty where one does."""
        place = self.place(name)
        if place.nodes == 1:
            return ""
        if name != "distill" or not place.gpus:
            raise UserError(f"profile {self.name}: nodes of {name}: only distill trains on several machines, with gpus")
        asked = place.model_dump(include={"nodes", "gpus", "gpu_type", "cpu", "memory", "scratch", "shm"})
        taints = [{key: str(value) for key, value in one.model_dump().items() if value} for one in place.tolerations]
        machines = Machines(
            **asked,
            seconds=seconds(place.timeout),
            image=self.image(place.image),
            node_selector=place.node_selector,
            tolerations=taints,
            labels=self.labels,
            queue=self.queue,
        )
        return machines.model_dump_json()

    def image(self, name: str) -> str:
        """The address of an image, or its local tag. Raises UserError if it must be a digest and is not."""
        address = self.images.get(name, "")
        if self.digests and not DIGEST.fullmatch(address):
            got = f"is {address!r}" if address else "is not given"
            raise UserError(f"profile {self.name} wants images by digest and {name} {got}; write it in --images FILE")
        return address


def pipelines_folder() -> Path:
    """`pipelines/` in this folder, else the one that came with Hone: in its wheel, or in its checkout."""
    package = Path(__file__).parents[1]
    known = (HERE, package / "pipelines", package.parents[1] / "pipelines")
    return next((folder for folder in known if folder.is_dir()), HERE)


def _folder() -> Path:
    return pipelines_folder() / "profiles"


def load(name: str, images: Path | None = None) -> Profile:
    """The profile pipelines/profiles/NAME.yaml, or one by its path, with the images of a file. Raises UserError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else _folder() / f"{name}.yaml"
    data = {"name": path.stem, **_read(path)}
    if images:
        data = overlay(data, {"images": read_yaml(images)})
    profile = checked(Profile, data, str(path))
    _refuse_secrets(profile, path)
    unknown = [key for key in profile.by_task if key not in (*COMPONENTS, JOIN)]
    if unknown:
        raise UserError(f"{path}: by_task.{unknown[0]}: no such task; the tasks are {', '.join(COMPONENTS)}")
    return profile


def laid_over(profile: Profile, overrides: dict[str, Any], name: str) -> Profile:
    """A profile of another name, with these settings over its own. Raises UserError."""
    data = overlay(profile.model_dump(exclude_unset=True), {**overrides, "name": name})
    laid = checked(Profile, data, f"profile {name}")
    _refuse_secrets(laid, Path(name))
    return laid


def _refuse_secrets(profile: Profile, path: Path) -> None:
    """What stands in `env` is readable in every compiled pipeline and pod. Raises UserError."""
    for key, value in profile.env.items():
        if SECRET_NAME.search(key) or SECRET_VALUE.search(value):
            raise UserError(f"{path}: env.{key} looks like a secret; put it into a Secret and name that in `secrets`")


def _read(path: Path) -> dict[str, Any]:
    """A profile laid over the one that it extends, which lies beside it or in pipelines/profiles/."""
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in _folder().glob("*.yaml"))) or "none here"
        raise UserError(f"there is no profile {path.stem}; the profiles in {_folder()} are {known}")
    data = read_yaml(path)
    below: object = data.pop("extends", "")
    if not below:
        return data
    beside = path.parent / f"{below}.yaml"
    return overlay(_read(beside if beside.is_file() else _folder() / beside.name), data)


def seconds(duration: str) -> int:
    """From 90m, 12h and the like."""
    return int(duration[:-1]) * UNITS[duration[-1]]


def gib(size: str) -> int:
    """From 512Mi, 40Gi and the like, rounded down."""
    return int(size[:-2]) * MIB[size[-2:]] // MIB["Gi"]


def settle(task: "PipelineTask", name: str, profile: Profile) -> "PipelineTask":
    """Writes into a task what the profile asks for it."""
    place = profile.place(name)
    if place.nodes > 1:
        place = place.model_copy(update=WAITING)
    # The platform's cache compares names, not bytes; Hone's own results are found by content instead.
    task.set_caching_options(False)
    task.set_cpu_request(place.cpu).set_memory_request(place.memory).set_memory_limit(place.memory)
    if place.gpus:
        task.set_accelerator_type(place.gpu_type).set_accelerator_limit(place.gpus)
    _settle_pod(task, place, profile)
    _settle_environment(task, place, profile)
    if name != "notify":
        # Argo counts this from the start of the first try, ends a retry that is running when it is over, and kfp writes
        # an hour where nothing is given.
        window = (place.retries + 1) * seconds(place.timeout) + seconds(profile.queueing)
        task.set_retry(place.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration=f"{window}s")
    return task


def _settle_pod(task: "PipelineTask", place: Place, profile: Profile) -> None:
    from kfp import kubernetes

    kubernetes.set_timeout(task, seconds(place.timeout))
    if profile.security_context:
        # All else that a pod may not do (privilege escalation, capabilities, system calls) the backend itself forbids.
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, "scratch", "/tmp", size_limit=place.scratch)
    kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=place.shm)
    for key, value in sorted(place.node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for taint in place.tolerations:
        kubernetes.add_toleration(task, taint.key, taint.operator, taint.value or None, taint.effect)
    queue = {"kueue.x-k8s.io/queue-name": profile.queue} if profile.queue else {}
    for key, value in sorted({**profile.labels, **queue}.items()):
        kubernetes.add_pod_label(task, key, value)


def _settle_environment(task: "PipelineTask", place: Place, profile: Profile) -> None:
    from kfp import kubernetes

    always = profile.ca and not profile.ca_optional
    trust = dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE"), f"{CA_FOLDER}/ca.crt") if always else {}
    for key, value in sorted({**trust, **profile.env}.items()):
        task.set_env_variable(key, value)
    for keys in profile.secrets:
        kubernetes.use_secret_as_env(task, keys.name, keys.env, keys.optional)
    for keys in profile.config_maps:
        kubernetes.use_config_map_as_env(task, keys.name, keys.env, keys.optional)
    if profile.ca:
        kubernetes.use_config_map_as_volume(task, profile.ca, CA_FOLDER, optional=profile.ca_optional)
    if profile.model_cache.claim:
        kubernetes.mount_pvc(task, profile.model_cache.claim, profile.model_cache.path)
