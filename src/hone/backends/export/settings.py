"""Where else a published model goes: settings, and what is handed over."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hone.config import Settings
from hone.results.registry import Release


class Hub(Settings):
    """A model hub that speaks Hugging Face's protocol: HF_ENDPOINT in the environment says where, HF_TOKEN who."""

    extra: ClassVar[str] = "hub"
    repository: str = ""
    """owner/name; empty pushes nothing."""
    private: bool = True
    """Whether a repository that is made for it is private."""


class MLflow(Settings):
    """MLflow: a run with the figures and the files, and a registered model called like the domain."""

    extra: ClassVar[str] = "mlflow"
    uri: str = ""
    """The tracking server, such as http://mlflow:5000; empty pushes nothing. Credentials come from the environment."""
    experiment: str = "hone"
    """The experiment that the run belongs to; made if there is none."""


class ModelRegistry(Settings):
    """Kubeflow's Model Registry: a registered model called like the domain, whose versions point at the store."""

    extra: ClassVar[str] = "model-registry"
    url: str = ""
    """Its address, such as http://model-registry-service.kubeflow:8080; empty registers nothing."""


@dataclass(frozen=True)
class Parcel:
    """A published model: its release, its files here, where it lies in the store, and what was measured."""

    release: Release
    folder: Path
    address: str
    figures: Mapping[str, float]
    """Such as tuned_nDCG_at_10."""
