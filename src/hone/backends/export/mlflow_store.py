"""MLflow: a run that holds the figures and the files, and a version of the registered model that points at it."""

from typing import Any

from hone.backends import library
from hone.backends.export.settings import MLflow, Parcel
from hone.errors import TransientError

VERSION = "hone.version"


def push(settings: MLflow, parcel: Parcel) -> str:
    """Logs the model once and gives it the alias `current`; a version that is there already is not logged again.

    Returns the model's address in MLflow. Raises TransientError if the server refuses or cannot be reached.
    """
    mlflow = library("mlflow", settings.extra)
    try:
        client = mlflow.MlflowClient(tracking_uri=settings.uri, registry_uri=settings.uri)
        number = _known(client, parcel) or _logged(client, settings, parcel)
        client.set_registered_model_alias(parcel.release.domain, "current", number)
    except mlflow.exceptions.MlflowException as error:
        first = str(error).partition("\n")[0]
        raise TransientError(f"publish.mlflow: {settings.uri}: {first}; fix that and run again") from error
    return f"models:/{parcel.release.domain}/{number}"


def _known(client: Any, parcel: Parcel) -> str:
    """The number that MLflow gave to this version before; empty if it knows it not."""
    versions = client.search_model_versions(f"name='{parcel.release.domain}'")
    return next((one.version for one in versions if one.tags.get(VERSION) == parcel.release.version), "")


def _logged(client: Any, settings: MLflow, parcel: Parcel) -> str:
    release = parcel.release
    experiment = client.get_experiment_by_name(settings.experiment)
    place = experiment.experiment_id if experiment else client.create_experiment(settings.experiment)
    run = client.create_run(place, run_name=f"{release.domain} {release.version}").info
    client.log_param(run.run_id, "store", parcel.address)
    for name, value in parcel.figures.items():
        client.log_metric(run.run_id, name, value)
    client.log_artifacts(run.run_id, str(parcel.folder), "model")
    if not client.search_registered_models(f"name='{release.domain}'"):
        client.create_registered_model(release.domain)
    made = client.create_model_version(
        release.domain,
        source=f"{run.artifact_uri}/model",
        run_id=run.run_id,
        tags={VERSION: release.version, "hone.model": release.model},
        description=release.finding,
    )
    client.set_terminated(run.run_id)
    return str(made.version)
