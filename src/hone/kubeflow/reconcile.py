"""`hone reconcile`: makes the platform hold the pipelines and recurring runs of a plan, and no other recurring runs.

The chart's registrar runs it at every install and upgrade. The platform cannot change a recurring run: one is named by
all that it consists of, and deleted and made anew when that changes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from hone.config import Settings, checked
from hone.errors import UserError
from hone.kubeflow import profile as profiles
from hone.kubeflow.platform import asking
from hone.kubeflow.settings_text import LONGEST_INLINE, check, is_address
from hone.kubeflow.submit import Version, register
from hone.settings import read_yaml

if TYPE_CHECKING:
    from kfp import Client

PAGE = 100


class Recurring(Settings):
    """A run by the clock. What has not changed since the last one is found in the store and not computed again."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?$")
    """Its name."""
    cron: str = Field(pattern=r"^\S+( \S+){5}$")
    """When: seconds, minutes, hours, day of the month, month, weekday."""
    settings: str = ""
    """The settings file: its text, or its address s3://bucket/key."""
    domains: tuple[str, ...] = ()
    """For specialize_many, in place of that: the address of the settings file of each domain."""
    store: str
    """Where results live, s3://bucket/prefix."""
    pipeline: str = "specialize"
    """The pipeline that runs: one whose parameters are settings and store."""
    enabled: bool = True
    """Whether the clock starts it."""
    service_account: str = ""
    """The service account of its tasks, where a domain has one of its own; empty for the plan's."""
    overrides: dict[str, Any] = Field(default={})
    """Laid over the profile for this run alone: a domain's own queue, secrets, labels or sizes."""

    @property
    def parameters(self) -> dict[str, Any]:
        """What its pipeline is given."""
        return {
            **({"domains": list(self.domains)} if self.domains else {"settings": self.settings}),
            "store": self.store,
        }


class Plan(Settings):
    """What the platform is to hold."""

    profile: str
    """The profile that the pipelines are compiled for: a name, or a file."""
    pipelines: tuple[str, ...] = ("specialize",)
    """The pipelines to upload."""
    experiment: str = "hone-recurring"
    """The experiment of the recurring runs. Any other recurring run in it is deleted."""
    service_account: str = ""
    """The service account of their tasks."""
    recurring: tuple[Recurring, ...] = ()
    """The runs by the clock."""


def load_plan(path: Path) -> Plan:
    """A plan from its file; the profile's path is relative to it. Raises UserError."""
    plan = checked(Plan, read_yaml(path), str(path))
    for run in plan.recurring:
        _check_run(path, plan, run)
    beside = path.parent / plan.profile
    return plan.model_copy(update={"profile": str(beside)}) if beside.is_file() else plan


def _check_run(path: Path, plan: Plan, run: Recurring) -> None:
    if run.pipeline not in plan.pipelines:
        raise UserError(f"{path}: the recurring run {run.name} wants {run.pipeline}, which is not among the pipelines")
    if bool(run.settings) == bool(run.domains) or bool(run.domains) != (run.pipeline == "specialize_many"):
        raise UserError(f"{path}: the recurring run {run.name} takes settings, and domains only with specialize_many")
    if run.domains or is_address(run.settings):
        return
    if len(run.settings.encode()) > LONGEST_INLINE:
        raise UserError(f"{path}: the settings of {run.name} are too long; put them at an s3:// address and give that")
    check(run.settings)


def reconcile(client: "Client", plan: Plan, namespace: str) -> Iterator[str]:
    """Does it, and yields a sentence for each thing that it found or changed. Raises UserError."""
    profile = profiles.load(plan.profile)
    versions: dict[tuple[str, str], Version] = {}
    for name in plan.pipelines:
        version = versions["", name] = register(client, name, profile, namespace)
        yield f"pipeline {version.pipeline} {version.digest}: {'uploaded' if version.new else 'exists already'}"
    for run in plan.recurring:
        if run.overrides:
            own = profiles.laid_over(profile, run.overrides, f"{profile.name}-{run.name}")
            version = versions[run.name, run.pipeline] = register(client, run.pipeline, own, namespace)
            yield f"pipeline {version.pipeline} {version.digest}: {'uploaded' if version.new else 'exists already'}"
    with asking("reconciling the recurring runs"):
        yield from _reconcile_runs(client, plan, versions, namespace)


def _reconcile_runs(
    client: "Client", plan: Plan, versions: Mapping[tuple[str, str], Version], namespace: str
) -> Iterator[str]:
    experiment = client.create_experiment(plan.experiment, namespace=namespace)
    experiment_id = str(experiment.experiment_id)
    there = {str(run.display_name): str(run.recurring_run_id) for run in _pages(client, experiment_id)}
    version_of = {run.name: versions[run.name if run.overrides else "", run.pipeline] for run in plan.recurring}
    wanted = {_name(run, version_of[run.name], plan): run for run in plan.recurring}
    for name in sorted(there.keys() - wanted.keys()):
        client.delete_recurring_run(there[name])
        yield f"recurring run {name}: deleted"
    for name, run in wanted.items():
        if name in there:
            yield f"recurring run {name}: exists already"
            continue
        _create(client, experiment_id, name, run, version_of[run.name], plan)
        yield f"recurring run {name}: made, {run.cron}"


def _create(client: "Client", experiment_id: str, name: str, run: Recurring, version: Version, plan: Plan) -> None:
    client.create_recurring_run(
        experiment_id,
        name,
        cron_expression=run.cron,
        max_concurrency=1,
        no_catchup=True,
        params=run.parameters,
        pipeline_id=version.pipeline_id,
        version_id=version.version_id,
        enabled=run.enabled,
        service_account=run.service_account or plan.service_account or None,
    )


def _name(run: Recurring, version: Version, plan: Plan) -> str:
    """The run's name and a hash of all that it consists of."""
    whole = f"{run.model_dump_json()} {version.version_id} {plan.service_account}"
    return f"{run.name}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def _pages(client: "Client", experiment_id: str) -> Iterator[Any]:
    token = ""
    while True:
        page = client.list_recurring_runs(token, PAGE, experiment_id=experiment_id)
        yield from page.recurring_runs or []
        token = str(page.next_page_token or "")
        if not token:
            return
